"""One at a time: the right to change a registered model, which MLflow changes unconditionally.

Each claims first and looks afterwards, so of two who claim at once at least one sees the other and
steps back. A holder says again and again that it is alive; whoever stays silent for long has died.
"""

from __future__ import annotations

import contextlib
import functools
import math
import random
import time
import uuid
from collections.abc import Iterator, Mapping

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tasks.running.meanwhile import meanwhile

_PREFIX = "claim."
_PATIENCE = 60.0
"""Seconds after which a claim that does not change belongs to somebody who died."""
_SIGNS = 6
"""So often within the patience a holder shows that it is alive; a slow server may lose some."""


@contextlib.contextmanager
def claimed(client: MlflowClient, name: str, patience: float = _PATIENCE) -> Iterator[None]:
    """Hold the right to change a registered model during the block.

    Args:
        client: Of the registry.
        name: Of the registered model, which exists.
        patience: Seconds without a sign of life after which others' claims are removed; the same
            for all who claim.
    """
    # Of this claimant alone: two flows may be at the same adapter, even in one process.
    own = f"{_PREFIX}{uuid.uuid4().hex}"
    signs = _Signs(patience)
    try:
        while not _is_free_for(client, name, own):
            for dead in signs.silent(_claims(client, name)):
                _release(client, name, dead)
            time.sleep(random.uniform(0.05, 0.3))
        with meanwhile(functools.partial(_renew, client, name, own), patience / _SIGNS):
            yield
    finally:
        _release(client, name, own)


def _is_free_for(client: MlflowClient, name: str, own: str) -> bool:
    """Claim, and tell whether nobody else does; step back if somebody does."""
    if _claims(client, name):
        return False
    _say(client, name, own)
    if not _claims(client, name).keys() - {own}:
        return True
    _release(client, name, own)
    return False


class _Signs:
    """What others' claims said, and since when they have not said anything else."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._since: dict[tuple[str, str], float] = {}
        self._looked = -math.inf

    def silent(self, claims: Mapping[str, str]) -> list[str]:
        """Return the claims that have been seen saying the same for the whole patience.

        While the server is away nobody can say anything, so after a gap the count begins anew.
        """
        now = time.monotonic()
        if now - self._looked > self._patience / 2:
            self._since = {}
        self._looked = now
        self._since = {said: self._since.get(said, now) for said in claims.items()}
        return [claim for (claim, _), since in self._since.items() if now - since > self._patience]


def _renew(client: MlflowClient, name: str, own: str) -> None:
    """Renew a claim; a lost server is asked again, and if it stays lost, others may take over."""
    with contextlib.suppress(MlflowException):
        _say(client, name, own)


def _say(client: MlflowClient, name: str, own: str) -> None:
    client.set_registered_model_tag(name, own, f"alive at {time.time_ns()} ns")


def _claims(client: MlflowClient, name: str) -> dict[str, str]:
    tags = client.get_registered_model(name).tags
    return {tag: value for tag, value in tags.items() if tag.startswith(_PREFIX)}


def _release(client: MlflowClient, name: str, claim: str) -> None:
    # Somebody else may have removed it; and one that is left is removed by whoever waits for it.
    with contextlib.suppress(MlflowException):
        client.delete_registered_model_tag(name, claim)
