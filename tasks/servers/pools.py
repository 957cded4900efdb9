"""Work pools and their queues: made on a server out of the job templates in infra/pools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound

from lcm_lora.errors import UserError
from tasks.servers.automations import Change

Kind = Literal["process", "docker", "kubernetes"]

POOLS = {
    "cpu": "Flows, and stages that need no accelerator.",
    "gpu": "Stages that compute on an accelerator: one worker for each set of them.",
}


def bring(client: SyncPrefectClient, name: str, kind: Kind | None, templates: Path) -> Change:
    """Make a pool, or give it the present job template; what is paused or limited stays so.

    Args:
        client: Of the server.
        name: The pool's.
        kind: What runs its jobs; null: what it is, and a process where it is new.
        templates: The folder of the job templates.

    Raises:
        UserError: The pool is there and of another kind, or there is no such template.
    """
    try:
        known = client.read_work_pool(name)
    except ObjectNotFound:
        template = _template(templates, kind or "process", name)
        client.create_work_pool(
            WorkPoolCreate(
                name=name,
                type=kind or "process",
                description=POOLS[name],
                base_job_template=template,
            )
        )
        return "new"
    if kind not in {None, known.type}:
        raise UserError(
            f"pool {name}: is of kind {known.type}, which cannot be changed; `prefect work-pool "
            f"delete {name}`, then run this again, or leave out --pools"
        )
    template = _template(templates, known.type, name)
    if known.base_job_template == template:
        return "unchanged"
    client.update_work_pool(name, WorkPoolUpdate(base_job_template=template))
    return "changed"


def bring_queue(client: SyncPrefectClient, pool: str, name: str) -> Change:
    """Make a queue in a pool that lets one run through at a time."""
    try:
        known = client.read_work_queue_by_name(name, pool)
    except ObjectNotFound:
        client.create_work_queue(name, concurrency_limit=1, work_pool_name=pool)
        return "new"
    if known.concurrency_limit == 1:
        return "unchanged"
    client.update_work_queue(known.id, concurrency_limit=1)
    return "changed"


def are_processes(client: SyncPrefectClient) -> bool:
    """Tell whether what a worker of any pool takes begins at once, on the worker's own machine."""
    return all(client.read_work_pool(name).type == "process" for name in POOLS)


def _template(folder: Path, kind: str, name: str) -> dict[str, Any]:
    """Return the job template of a pool: its own, or that of all of its kind."""
    for path in (folder / f"{kind}-{name}.json", folder / f"{kind}.json"):
        if path.is_file():
            return dict(json.loads(path.read_text()))
    raise UserError(
        f"{folder}: no job template {kind}-{name}.json; run in the project's folder, or restore it"
    )
