"""What a run knows of the worker that it is on, if it is on one."""

from __future__ import annotations

import atexit
import os
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.states import Crashed

from tasks.running import process


def project() -> Path:
    """Return the project's folder: a worker's clone, or where a command was given."""
    return Path(os.environ.get("LCM_LORA_PROJECT") or Path.cwd()).resolve()


def end_with_worker() -> None:
    """End this run soon after the worker that started it, however that ends, and say so.

    Else Prefect would hear of it from the worker, which is dead, and the run would seem to go on.
    """
    if run := os.environ.get("PREFECT__FLOW_RUN_ID"):
        process.end_with_parent()
        atexit.register(_say_if_orphaned, UUID(run), os.getppid())


def _say_if_orphaned(run: UUID, worker: int) -> None:
    if os.getppid() == worker:
        return
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run).state
        if state is None or not state.is_final():
            client.set_flow_run_state(run, Crashed(message="its worker has died"))
