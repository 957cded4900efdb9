"""The project's folder: one flow at a time works in it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from lcm_lora import layout
from lcm_lora.locks import locked


def alone(root: Path) -> AbstractContextManager[None]:
    """Hold a project's folder while the block runs; wait, and say so, while another flow does."""
    return locked(root / layout.CHECKPOINTS / "flow.lock", "another flow in this folder to end")
