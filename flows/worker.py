"""What a run knows of the worker that it is on, if it is on one."""

from __future__ import annotations

import os
from pathlib import Path

from tasks import process


def project() -> Path:
    """Return the project's folder: a worker's clone, or where a command was given."""
    return Path(os.environ.get("LCM_LORA_PROJECT") or Path.cwd()).resolve()


def end_with_worker() -> None:
    """End this run soon after the worker that started it, however that ends."""
    if "PREFECT__FLOW_RUN_ID" in os.environ:
        process.end_with_parent()
