"""DVC's run-cache: what a stage made of the same inputs before, found by a key of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dvc.utils import dict_sha256

_NO_CONTENT = ["size", "nfiles"]
"""What an entry says of a file beside its hash; DVC leaves it out of keys."""


def key_of(entry: Mapping[str, Any]) -> str:
    """Return the key of a stage's entry in dvc.lock: over its command, inputs and outputs' names.

    Equal keys mean equal inputs, so whoever knows the key knows of what an output was made.
    """
    inputs = {**entry, "outs": [out["path"] for out in entry.get("outs", [])]}
    return str(dict_sha256(inputs, exclude=_NO_CONTENT))
