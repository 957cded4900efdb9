"""Retrain: bring every stage of dvc.yaml up to date, then register the adapter and judge it."""

from __future__ import annotations

import sys

from flows import command

if __name__ == "__main__":
    # Ahead of the imports, which take seconds: a child of this process does them and runs main().
    sys.exit(command.launch("flows.retrain"))

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas import State
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from rich.console import Console

from flows import elsewhere, environment, summary, workspace
from flows.judging import Judged, register_and_judge
from flows.stages import run_stages
from lcm_lora import layout
from lcm_lora.check import check_params
from lcm_lora.errors import UserError
from lcm_lora.params.file import Params, load_params
from tasks import bringing, champion, tracking
from tasks.graph import TRANSFER_FLOW, Stage, but, is_due, plan
from tasks.request import Request
from tasks.stage import Outcome, Workshop, combined
from tasks.tracking import Tracker

_HERE = Request()
_MOST_ROUNDS = 5
"""So often the adapter is judged, if the champion is another one each time."""


# The threads only wait; params.yaml says how many stages compute.
@flow(name="retrain", task_runner=ThreadPoolTaskRunner(max_workers=64))  # type: ignore[arg-type]
def retrain(request: Request = _HERE) -> State[Any]:
    """Run the project in the working directory; the state is Completed, or Failed with one line."""
    root, console = Path.cwd(), Console()
    try:
        with workspace.alone(root):
            params = load_params(root / layout.PARAMS)
            check_params(params)
            environment.stay_offline(params)
            stages = _stages(root)
            tracker = tracking.connect(root, params.registry.experiment)
            bringing.bring(tracker, params)
            judged, outcomes = run_until_settled(tracker, params, stages, console)
            summary.show_scores(console, judged.table, judged.decision, judged.move)
            summary.show_stages(console, outcomes)
            summary.show_decision(console, root, judged.version, judged.decision, judged.move)
            elsewhere.follow(tracker, params, outcomes, console)
    except UserError as error:
        return Failed(message=str(error))
    return Completed()


def run_until_settled(
    tracker: Tracker, params: Params, stages: list[Stage], console: Console
) -> tuple[Judged, list[Outcome]]:
    """Run the stages and judge the adapter, again while the champion is not the one compared.

    Raises:
        UserError: A stage failed, something is damaged, or the champion is another one each time.
    """
    workshop = Workshop(tracker.root, params.retrain.workers)
    outcomes: list[Outcome] = []
    for _ in range(_MOST_ROUNDS):
        outcomes = combined(outcomes, run_beside_champion(tracker, params, stages, workshop))
        if judged := register_and_judge(tracker, params):
            return judged, outcomes
        console.print("The champion is not the one compared; the adapter is judged again")
        stages = _stages(tracker.root)
    raise UserError(
        f"registry.name {params.registry.name}: the champion changed {_MOST_ROUNDS} times while "
        "the adapter was judged; run again when nobody else promotes"
    )


def run_beside_champion(
    tracker: Tracker, params: Params, stages: list[Stage], workshop: Workshop
) -> list[Outcome]:
    """Bring the champion and run every stage.

    The champion is left where it is only if it is the project's own adapter and no other one is to
    be expected. Pictures that came in meanwhile show in the first look alone, so look first.

    Raises:
        UserError: A stage failed, or the champion cannot be had.
    """
    name = params.registry.name
    if champion.bring(tracker, name, for_new=is_due(stages, layout.ADAPTER)):
        return run_stages(stages, workshop, tracker)
    looked = run_stages([stage for stage in stages if not stage.upstream], workshop, tracker)
    stages = _stages(tracker.root)
    if is_due(stages, layout.ADAPTER):
        champion.bring(tracker, name, for_new=True)
        return combined(looked, run_stages(stages, workshop, tracker))
    return run_stages(stages, workshop, tracker, looked)


def _stages(root: Path) -> list[Stage]:
    """Return the stages of a run: all but those that try the adapter elsewhere.

    Those come after the adapter is judged, since nothing that they meet may keep it from that.

    Raises:
        UserError: As `plan` does.
    """
    return but(plan(root), TRANSFER_FLOW)


def main() -> int:
    """Run the flow; return the process's exit status."""
    return command.ended(retrain(return_state=True))
