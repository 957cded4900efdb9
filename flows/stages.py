"""Run stages, each when those that it needs are done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect.futures import PrefectFuture

from lcm_lora import layout
from lcm_lora.errors import UserError
from tasks.running.graph import Stage
from tasks.running.stage import Outcome, Workshop, run_stage
from tasks.tracking.tracker import Tracker


def run_stages(
    stages: list[Stage], workshop: Workshop, tracker: Tracker, done: Sequence[Outcome] = ()
) -> list[Outcome]:
    """Run every stage when those that it needs are done, side by side where it can be.

    Args:
        stages: In an order in which they can run; what they need of others stays as it is.
        workshop: Where to run them.
        tracker: Follows the training.
        done: What became of stages that have run already.

    Raises:
        UserError: A stage failed; the others went as far as they could.
    """
    known = {outcome.name: outcome for outcome in done}
    futures: dict[str, PrefectFuture[Any]] = {}
    with workshop.no_survivors():
        for stage in stages:
            if stage.name in known:
                continue
            ours = [name for name in stage.upstream if name in known or name in futures]
            upstream = [known.get(name) or futures[name] for name in ours]
            watch = tracker.follow_training if layout.TRAINING in stage.outputs else None
            # Futures as arguments: Prefect waits for them, and passes what came of them.
            futures[stage.name] = run_stage.submit(stage, workshop, upstream, watch)  # type: ignore[arg-type]
        for future in futures.values():
            future.wait()
    for name, future in futures.items():
        if not future.state.is_completed():
            raise UserError(f"{name}: {future.state.message}")
    ran = {name: future.result() for name, future in futures.items()}
    return [(known | ran)[stage.name] for stage in stages]
