"""Transfer: try the new adapter on other bases and beside styles, by the stages for that alone."""

from __future__ import annotations

import sys

from flows import command

if __name__ == "__main__":
    # Ahead of the imports, which take seconds: a child of this process does them and runs main().
    sys.exit(command.launch("flows.transfer"))

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas import State
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from rich.console import Console

from flows import environment, summary
from flows.stages import run_stages
from lcm_lora import layout
from lcm_lora.check import check_params
from lcm_lora.errors import UserError
from lcm_lora.mapping.subjects import Places, Tried, read_tried
from lcm_lora.params.file import Params, load_params
from lcm_lora.recipe import read_recipe
from tasks import modules, registry, tracking
from tasks.graph import TRANSFER, of_flow, plan
from tasks.stage import Workshop
from tasks.tracking import Tracker


# The threads only wait; params.yaml says how many stages compute.
@flow(name="transfer", task_runner=ThreadPoolTaskRunner(max_workers=64))  # type: ignore[arg-type]
def transfer() -> State[Any]:
    """Run the project in the working directory; the state is Completed, or Failed with one line."""
    root, console = Path.cwd(), Console()
    try:
        params = load_params(root / layout.PARAMS)
        check_params(params)
        check_subjects(params)
        environment.stay_offline(params.base)
        tracker = tracking.connect(root, params.registry.experiment)
        modules.bring(tracker, params)
        workshop = Workshop(root, params.retrain.workers)
        outcomes = run_stages(of_flow(plan(root), TRANSFER), workshop, tracker)
        tried = read_all(root, params)
        version = log(tracker, params, tried)
    except UserError as error:
        return Failed(message=str(error))
    summary.show_transfer(console, tried)
    summary.show_stages(console, outcomes)
    summary.show_page(console, root, version)
    return Completed()


def check_subjects(params: Params) -> None:
    """Check that there is something to try.

    Raises:
        UserError: There is no subject.
    """
    if not params.transfer.subjects:
        raise UserError("transfer.subjects: empty; name a base or styles to try the adapter with")


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
    version = registry.version_of(tracker, params.registry.name, adapter)
    if version is None or version.run_id is None:
        return None
    tracking.log_transfer(tracker, version.run_id, {one.name: one.table for one in tried})
    return f"{version.name} version {version.version}"


def main() -> int:
    """Run the flow; return the process's exit status."""
    state = transfer(return_state=True)
    if not state.is_completed():
        complain = Console(stderr=True, soft_wrap=True, highlight=False).print
        complain(f"error: {state.message}", markup=False)
        return 1
    return 0
