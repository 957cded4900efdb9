"""One at a time: the right to move the champion's alias, which MLflow cannot move conditionally.

Each claims first and looks afterwards, so of two who claim at once at least one sees the other and
steps back. A claim is held for moments; one that stays belongs to somebody who died.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator

from mlflow import MlflowClient

_PREFIX = "claim."
_SECONDS = 5.0
"""So long others are waited for."""


@contextlib.contextmanager
def claimed(client: MlflowClient, name: str, who: str) -> Iterator[None]:
    """Hold the right to move aliases of a registered model during the block.

    Args:
        client: Of the registry.
        name: Of the registered model.
        who: A name that no other claimant has at that time, such as the version's number.
    """
    own, end = f"{_PREFIX}{who}", time.monotonic() + _SECONDS
    try:
        while True:
            client.set_registered_model_tag(name, own, "held for moments")
            others = _claims(client, name) - {own}
            if not others:
                break
            if time.monotonic() > end:
                _release(client, name, others)
                break
            _release(client, name, {own})
            time.sleep(random.uniform(0.05, 0.3))
        yield
    finally:
        _release(client, name, {own})


def _claims(client: MlflowClient, name: str) -> set[str]:
    return {tag for tag in client.get_registered_model(name).tags if tag.startswith(_PREFIX)}


def _release(client: MlflowClient, name: str, claims: set[str]) -> None:
    for claim in claims & _claims(client, name):
        client.delete_registered_model_tag(name, claim)
