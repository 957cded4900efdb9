"""What came of the new adapter elsewhere: read, given to its version's run, and said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flows import summary
from flows.stages import run_stages
from lcm_lora import layout
from lcm_lora.mapping.subjects import Places, Tried, read_tried
from lcm_lora.params.file import Params
from lcm_lora.recipe import read_recipe
from tasks.registry import versions
from tasks.running.graph import TRANSFER_FLOW, of_flow, plan
from tasks.running.stage import Outcome, Workshop
from tasks.tracking.results import log_transfer
from tasks.tracking.tracker import Tracker

_READ = [
    f"{layout.TRANSFER}/scores/*",
    f"{layout.TRANSFER}/report/*",
    f"{layout.TRANSFER}/images/*.json",
    f"{layout.ADAPTER}/*",
]
"""What is read of what the stages made; the pictures can stay where they are."""


def follow(
    workshop: Workshop,
    tracker: Tracker,
    params: Params,
    done: Sequence[Outcome],
    console: Console,
) -> None:
    """Try the adapter elsewhere after it was judged, where parameters ask for it.

    Without subjects the stages have nothing to do; they run, so that DVC counts them as done.

    Raises:
        UserError: A stage failed, or something that one left is damaged.
    """
    subjects = params.transfer.subjects
    if subjects and not params.retrain.transfer:
        return
    outcomes = run_stages(of_flow(plan(tracker.root), TRANSFER_FLOW), workshop, tracker, done)
    if subjects:
        tell(workshop, tracker, params, console)
        known = {outcome.name for outcome in done}
        summary.show_stages(console, [each for each in outcomes if each.name not in known])


def tell(workshop: Workshop, tracker: Tracker, params: Params, console: Console) -> None:
    """Log what the transfer stages left to the run of the adapter's version, and print it.

    Raises:
        UserError: Something of it, the adapter or dvc.lock is missing or damaged.
    """
    workshop.bring_back(_READ)
    tried = read_all(tracker.root, params)
    version = log(tracker, params, tried)
    summary.show_transfer(console, tried)
    summary.show_page(console, tracker.root, version)


def read_all(root: Path, params: Params) -> list[Tried]:
    """Read what came out on each subject.

    Raises:
        UserError: Something of it is missing or damaged.
    """
    made = root / layout.TRANSFER
    places = Places(root / layout.INVENTORY / "transfer", made / "images", made / "scores")
    return read_tried(params.transfer, places)


def log(tracker: Tracker, params: Params, tried: list[Tried]) -> str | None:
    """Log all to the run of the version that carries this adapter; return the version, if any.

    Raises:
        UserError: The adapter or dvc.lock is damaged.
    """
    adapter = read_recipe(tracker.root / layout.ADAPTER).weights_sha256
    version = versions.version_of(tracker, params.registry.name, adapter)
    if version is None or version.run_id is None:
        return None
    log_transfer(tracker, version.run_id, {one.name: one.table for one in tried})
    return f"{version.name} version {version.version}"
