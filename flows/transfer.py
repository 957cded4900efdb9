"""Transfer: try the adapter on other bases and beside styles, by the stages for that alone."""

from __future__ import annotations

import sys

from flows import command

if __name__ == "__main__":
    # Ahead of the imports, which take seconds: a child of this process does them and runs main().
    sys.exit(command.launch("flows.transfer", __doc__))

from collections.abc import Sequence
from typing import Any

from prefect import flow
from prefect.client.schemas import State
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from rich.console import Console

from flows import elsewhere, summary, workspace
from flows.stages import run_stages
from lcm_lora import layout
from lcm_lora.errors import UserError
from tasks.isolated.request import Request
from tasks.registry import bringing
from tasks.running.graph import TRANSFER_FLOW, is_due, of_flow, plan
from tasks.running.stage import Outcome, Workshop
from tasks.tracking.tracker import Tracker

_HERE = Request()
_NOTHING = "transfer.subjects: empty, so nothing is tried; name a base or styles to try"


# The threads only wait; params.yaml says how many stages compute.
@flow(
    name="transfer",
    flow_run_name="transfer: {request.why}",
    task_runner=ThreadPoolTaskRunner(max_workers=64),  # type: ignore[arg-type]
)
def transfer(request: Request = _HERE) -> State[Any]:
    """Try the project's adapter elsewhere; the state is Completed, or Failed with one line."""
    console = Console()
    try:
        with workspace.opened(request) as place:
            params = place.params()
            if not params.transfer.subjects:
                console.print(_NOTHING, soft_wrap=True)
                return Completed(message=_NOTHING)
            tracker = place.tracker(params)
            bringing.bring(tracker, params, clear=place.is_shared)
            with place.workshop(tracker, params) as workshop:
                outcomes = run_own_stages(workshop, tracker)
                elsewhere.tell(workshop, tracker, params, console)
    except UserError as error:
        return Failed(message=str(error))
    summary.show_stages(console, outcomes)
    return Completed()


def run_own_stages(workshop: Workshop, tracker: Tracker) -> list[Outcome]:
    """Look at what is there, then try the adapter that is there; none is trained here.

    What the stages need is brought back where it is not here, such as in a clone.

    Raises:
        UserError: A stage failed, or the adapter is not that of the data, code and parameters.
    """
    first = [stage for stage in plan(tracker.root) if not stage.upstream]
    looked = run_stages(first, workshop, tracker)
    stages = plan(tracker.root)
    if is_due(stages, layout.ADAPTER):
        raise UserError(
            f"{layout.ADAPTER}: due to be trained anew; run `python -m flows.retrain` first"
        )
    return [*looked, *run_stages(of_flow(stages, TRANSFER_FLOW), workshop, tracker, looked)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flow as the arguments ask; return the process's exit status."""
    return command.asked(transfer, "flows.transfer", arguments)
