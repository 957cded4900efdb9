"""Drift: whether the data that came in are still like those that the champion was trained on."""

from __future__ import annotations

import sys

from flows import command

if __name__ == "__main__":
    # Ahead of the imports, which take seconds: a child of this process does them and runs main().
    sys.exit(command.launch("flows.drift", __doc__))

from collections.abc import Sequence
from typing import Any

import httpx
from prefect import flow
from prefect.client.schemas import State
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from rich.console import Console

from flows import workspace
from flows.stages import run_stages
from lcm_lora import layout
from lcm_lora.drift.record import DriftRecord
from lcm_lora.errors import UserError, reason
from lcm_lora.params.file import Params
from tasks.champions import champion
from tasks.champions import drift as drifting
from tasks.isolated.request import Request
from tasks.running.graph import hash_of, locked, plan, that_make
from tasks.running.stage import Workshop
from tasks.servers import events
from tasks.tracking.tracker import Tracker

_HERE = Request()
_RETRAIN = "retrain/nightly"


# The threads only wait; params.yaml says how many stages compute.
@flow(name="drift", task_runner=ThreadPoolTaskRunner(max_workers=64))  # type: ignore[arg-type]
def drift(request: Request = _HERE) -> State[Any]:
    """Look at the project's data; trains nothing. The state says what came out."""
    try:
        with workspace.opened(request) as place:
            params = place.params()
            tracker = place.tracker(params)
            with place.workshop(tracker, params) as workshop:
                wanted = Request(
                    workspace="isolated", revision=place.commit, overrides=request.overrides
                )
                said = compare(workshop, tracker, params, wanted)
    except UserError as error:
        return Failed(message=str(error))
    Console().print(said, soft_wrap=True)
    return Completed(message=said)


def compare(workshop: Workshop, tracker: Tracker, params: Params, wanted: Request) -> str:
    """Bring the training data up to date, compare them with the champion's, and say what came out.

    Args:
        workshop: Where stages run.
        tracker: Of the project.
        params: Of the project.
        wanted: What to ask for where parameters want a retraining after drift.

    Raises:
        UserError: A stage failed, or the champion's data are lost.
    """
    known = champion.data_of(tracker, params.registry.name)
    if known is None:
        return f"{params.registry.name}: nobody is champion, so there is nothing to compare with"
    against, before = known
    run_stages(that_make(plan(tracker.root), layout.SHARDS), workshop, tracker)
    now = hash_of(locked(tracker.root), layout.SHARDS)
    found = drifting.compare(tracker.root, before, now, params.drift)
    if found is None:
        return f"nothing new since {against.version} was trained"
    if found.has_drifted:
        _tell(params, against.version, found, wanted)
    return f"against {against.version}: {found.words}"


def _tell(params: Params, version: str, found: DriftRecord, wanted: Request) -> None:
    """Say that data have drifted; ask for a new adapter, where parameters say so."""
    payload = {"against": version, **found.model_dump(mode="json")}
    events.emit("data.drifted", events.model(params.registry.name), payload)
    if params.drift.retrain:
        _ask_for_retraining(wanted.model_copy(update={"why": f"drift against {version}"}))


def _ask_for_retraining(request: Request) -> None:
    try:
        run_deployment(_RETRAIN, parameters={"request": request.model_dump()}, timeout=0)
    except ObjectNotFound:
        raise UserError(
            f"drift.retrain: the server has no deployment {_RETRAIN}; run `python -m flows.deploy`"
        ) from None
    except httpx.HTTPError as error:
        raise UserError(
            f"drift.retrain: Prefect did not take the order ({reason(error)}); run again"
        ) from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flow as the arguments ask; return the process's exit status."""
    return command.asked(drift, "flows.drift", arguments)
