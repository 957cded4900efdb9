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
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from rich.console import Console

from flows import environment, summary
from lcm_lora import layout
from lcm_lora.check import check_params
from lcm_lora.errors import UserError
from lcm_lora.params.file import Params, load_params
from tasks import gate, registry, tracking
from tasks.graph import Stage, plan
from tasks.stage import Outcome, Workshop, run_stage
from tasks.tracking import Tracker
from tasks.training import read_training


# The threads only wait; params.yaml says how many stages compute.
@flow(name="retrain", task_runner=ThreadPoolTaskRunner(max_workers=64))  # type: ignore[arg-type]
def retrain() -> State[Any]:
    """Run the project in the working directory; the state is Completed, or Failed with one line."""
    root, console = Path.cwd(), Console()
    try:
        params = load_params(root / layout.PARAMS)
        check_params(params)
        environment.stay_offline(params.base)
        stages = plan(root)
        tracker = tracking.connect(root, params.registry.experiment)
        outcomes = run_stages(stages, Workshop(root, params.retrain.workers), tracker)
        register_and_judge(tracker, params, outcomes, console)
    except UserError as error:
        return Failed(message=str(error))
    return Completed()


def run_stages(stages: list[Stage], workshop: Workshop, tracker: Tracker) -> list[Outcome]:
    """Run every stage when those that it needs are done, side by side where it can be.

    Raises:
        UserError: A stage failed; the others went as far as they could.
    """
    futures: dict[str, PrefectFuture[Any]] = {}
    with workshop.no_survivors():
        for stage in stages:
            upstream = [futures[name] for name in stage.upstream]
            watch = tracker.follow_training if layout.TRAINING in stage.outputs else None
            # Futures as arguments: Prefect waits for them, and passes what came of them.
            futures[stage.name] = run_stage.submit(stage, workshop, upstream, watch)  # type: ignore[arg-type]
        for future in futures.values():
            future.wait()
    for name, future in futures.items():
        if not future.state.is_completed():
            raise UserError(f"{name}: {future.state.message}")
    return [future.result() for future in futures.values()]


def register_and_judge(
    tracker: Tracker, params: Params, outcomes: list[Outcome], console: Console
) -> None:
    """Register the adapter, let the gate decide about the champion alias, and print it all."""
    scores, training = gate.read(tracker.root / layout.SCORES), read_training(tracker.root)
    run_id = tracking.log_results(tracker, params, training, scores)
    version = registry.register(tracker, run_id, params, training, scores)
    decision = registry.judge(tracker, version, scores, params.registry.gate)
    registry.promote(tracker, version, decision)
    summary.show_scores(console, scores)
    summary.show_stages(console, outcomes)
    summary.show_decision(console, tracker.root, version, decision)


def main() -> int:
    """Run the flow; return the process's exit status."""
    state = retrain(return_state=True)
    if not state.is_completed():
        complain = Console(stderr=True, soft_wrap=True, highlight=False).print
        complain(f"error: {state.message}", markup=False)
        return 1
    return 0
