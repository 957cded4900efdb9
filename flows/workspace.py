"""Where a run works: in the project's folder, one at a time; or in a checkout of a commit."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

from lcm_lora import layout
from lcm_lora.locks import locked
from tasks import process


def project() -> Path:
    """Return the project's folder: a worker's clone, or where a command was given."""
    return Path(os.environ.get("LCM_LORA_PROJECT") or Path.cwd()).resolve()


def end_with_worker() -> None:
    """End this run soon after the worker that started it, however that ends."""
    if "PREFECT__FLOW_RUN_ID" in os.environ:
        process.end_with_parent()


def alone(root: Path) -> AbstractContextManager[None]:
    """Hold a project's folder while the block runs; wait, and say so, while another flow does."""
    return locked(root / layout.CHECKPOINTS / "flow.lock", "another flow in this folder to end")
