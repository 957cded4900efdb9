"""Roll back: make a champion of before champion again, in the same two phases."""

from __future__ import annotations

import sys

from flows import command, consent

if __name__ == "__main__":
    # Ahead of the imports, which take seconds: a child of this process does them and runs main().
    consent.rollback_parser().parse_args()
    sys.exit(command.launch("flows.rollback"))

from typing import Any

from prefect import flow
from prefect.client.schemas import State
from prefect.states import Completed, Failed

from flows import pages, registered, worker
from flows.consent import Name, Reason
from lcm_lora.errors import UserError
from tasks.champions import rolling_back


@flow(name="rollback", flow_run_name="rollback: {why}")
def rollback(by: Name, why: Reason, to: str | None = None) -> State[Any]:
    """Return to a champion of before; the state is Completed, or Failed with one line.

    Args:
        by: Who says so.
        why: Their reason.
        to: A version that was champion once; null for the champion before.
    """
    worker.end_with_worker()
    try:
        with registered.reached() as (tracker, params):
            entry = rolling_back.roll_back(tracker.client, params.registry, to, by, why)
    except UserError as error:
        return Failed(message=str(error))
    came_to = f"version {entry.version}: champion again, in the place of version {entry.before}"
    pages.rename(came_to)
    return Completed(message=f"{params.registry.name} {came_to}")


def main() -> int:
    """Run the flow with the word that was given; return the process's exit status."""
    said = consent.rollback_parser().parse_args()
    return command.ended(rollback(said.by, said.why, said.to, return_state=True))
