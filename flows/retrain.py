"""Retrain: bring every stage of dvc.yaml up to date, then register the adapter and judge it."""

from __future__ import annotations

import sys

from flows import command

if __name__ == "__main__":
    # Ahead of the imports, which take seconds: a child of this process does them and runs main().
    sys.exit(command.launch("flows.retrain", __doc__))

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas import State
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from rich.console import Console

from flows import elsewhere, pages, summary, workspace
from flows.judging import Judged, register_and_judge
from flows.stages import run_stages
from lcm_lora import layout
from lcm_lora.errors import UserError
from lcm_lora.params.file import Params
from tasks.champions import champion
from tasks.isolated.request import Request
from tasks.registry import bringing
from tasks.running.graph import TRANSFER_FLOW, Stage, but, is_due, plan
from tasks.running.stage import Outcome, Workshop, combined
from tasks.tracking.tracker import Tracker

_HERE = Request()
_READ = [
    *(f"{path}*" for path in (layout.SCORES.parent, layout.DECISION, layout.LATENCY)),
    *(f"{path}/*" for path in (layout.ADAPTER, layout.TRAINING, layout.SELECTED.parent)),
    *(f"{path}/*" for path in (layout.REPORT, layout.SMOKE)),
    f"{layout.CANDIDATES}/*/recipe.json",
]
"""What judging reads of what the stages made; the rest can stay where it is."""
_MOST_ROUNDS = 5
"""So often the adapter is judged, if the champion is another one each time."""


# The threads only wait; params.yaml says how many stages compute.
@flow(
    name="retrain",
    flow_run_name="retrain: {request.why}",
    task_runner=ThreadPoolTaskRunner(max_workers=64),  # type: ignore[arg-type]
)
def retrain(request: Request = _HERE) -> State[Any]:
    """Bring the project up to date; the state says in one line what came of it, or what failed."""
    console = Console()
    try:
        with workspace.opened(request) as place:
            params = place.params()
            stages = _stages(place.root)
            tracker = place.tracker(params)
            bringing.bring(tracker, params, clear=place.is_shared)
            with place.workshop(tracker, params) as workshop:
                # What the desk knows of before, it has from the registry.
                known = stages if place.is_shared else _stages(place.root)
                judged = bring_up_to_date(workshop, tracker, params, known, console)
    except UserError as error:
        return Failed(message=str(error))
    return Completed(message=summary.verdict(judged))


def bring_up_to_date(
    workshop: Workshop,
    tracker: Tracker,
    params: Params,
    stages: list[Stage],
    console: Console,
) -> Judged:
    """Run what has to run, judge the adapter, and say what came of it.

    Raises:
        UserError: A stage failed, something is damaged, or the champion is another one each time.
    """
    judged, outcomes = run_until_settled(tracker, params, stages, workshop, console)
    summary.show_scores(console, judged.table, judged.decision, judged.move)
    summary.show_stages(console, outcomes)
    summary.show_decision(console, tracker.root, judged)
    pages.show(tracker, judged, outcomes)
    elsewhere.follow(workshop, tracker, params, outcomes, console)
    return judged


def run_until_settled(
    tracker: Tracker, params: Params, stages: list[Stage], workshop: Workshop, console: Console
) -> tuple[Judged, list[Outcome]]:
    """Run the stages and judge the adapter, again while the champion is not the one compared.

    Raises:
        UserError: A stage failed, something is damaged, or the champion is another one each time.
    """
    outcomes: list[Outcome] = []
    for _ in range(_MOST_ROUNDS):
        outcomes = combined(outcomes, run_beside_champion(tracker, params, stages, workshop))
        workshop.bring_back(_READ)
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flow as the arguments ask; return the process's exit status."""
    return command.asked(retrain, "flows.retrain", arguments)
