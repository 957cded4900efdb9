"""A process worker of a pool: it takes the flow runs of its pool and runs them in a project."""

from __future__ import annotations

import base64
import json
import os
import sys
import urllib.request
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from infra.local.parts import Part
from infra.local.settings import Settings, clients

_POOLS = ("cpu", "gpu")
NAMES = tuple(f"worker-{pool}" for pool in _POOLS)

# A device is for one run at a time; on CPUs, a flow waits for the stages that it sent there.
_LIMITS = {"gpu": ("--limit", "1")}


def part(folder: Path, settings: Settings, name: str, project: Path) -> Part:
    """Return how a worker is started.

    Args:
        folder: Of the stack.
        settings: Of the stack.
        name: Begins with `worker-` and the name of its pool, such as `worker-gpu-2`; the pool is
            made where it is missing.
        project: A clone of the project, where flow runs work.
    """
    pool = name.split("-")[1]
    what = ("--pool", pool, "--type", "process", "--name", name, *_LIMITS.get(pool, ()))
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = clients(settings)
    return Part(
        name=name,
        command=(sys.executable, "-m", "prefect", "worker", "start", *what),
        environment={
            **environment,
            "LCM_LORA_PROJECT": str(project),
            "PREFECT_HOME": str(folder / "prefect" / name),
            "DO_NOT_TRACK": "true",
            # A run is a chain of stages, and each would wait for the next look, ten seconds apart.
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            # Stages call `lcm-lora` and `dvc` by name.
            "PATH": programs,
        },
        place=project,
        answers=lambda born: _has_called(environment, pool, name, born),
    )


def is_deployed(settings: Settings) -> bool:
    """Tell whether Prefect's server, which answers, has the pools that the project deploys."""
    environment = clients(settings)
    pools = _ask(environment, "work_pools/filter", {})
    return set(_POOLS) <= {pool["name"] for pool in pools}


def _has_called(environment: Mapping[str, str], pool: str, name: str, born: float) -> bool:
    """Tell whether a worker has called on the server since it was started."""
    try:
        workers = _ask(environment, f"work_pools/{pool}/workers/filter", {})
    except OSError:
        return False
    calls = [worker["last_heartbeat_time"] for worker in workers if worker["name"] == name]
    return any(datetime.fromisoformat(call).timestamp() > born for call in calls)


def _ask(environment: Mapping[str, str], what: str, about: Any) -> Any:
    who = base64.b64encode(environment["PREFECT_API_AUTH_STRING"].encode()).decode()
    request = urllib.request.Request(
        f"{environment['PREFECT_API_URL']}/{what}",
        data=json.dumps(about).encode(),
        headers={"Authorization": f"Basic {who}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)
