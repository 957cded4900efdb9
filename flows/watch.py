"""Watch the champion: end what died half done, and enter in the journal what was done by hand."""

from __future__ import annotations

import sys

from flows import command

if __name__ == "__main__":
    # Ahead of the imports, which take seconds: a child of this process does them and runs main().
    sys.exit(command.launch("flows.watch"))

from typing import Any

from prefect import flow
from prefect.client.schemas import State
from prefect.states import Completed, Failed

from flows import registered, worker
from lcm_lora.errors import UserError
from tasks.champions import activation
from tasks.history import journal
from tasks.registry.reference import model_of


@flow(name="watch", flow_run_name="watch the champion")
def watch() -> State[Any]:
    """Settle the journal; the state is Failed if somebody altered it."""
    worker.end_with_worker()
    try:
        with registered.reached() as (tracker, params):
            name = params.registry.name
            if model_of(tracker.client, name) is None:
                return Completed(message=f"{name}: nothing is registered yet")
            known = len(journal.read(tracker.client, name))
            with activation.opened(tracker.client, name) as office:
                new = [entry.title for entry in office.journal.entries[known:]]
            damages = journal.verify(tracker.client, name)
    except UserError as error:
        return Failed(message=str(error))
    if damages:
        more = f" and {len(damages) - 1} more" if len(damages) > 1 else ""
        return Failed(
            message=f"journal of {name}: {damages[0]}{more}; `lcm-lora journal --verify` says all"
        )
    return Completed(message=f"{name}: {'; '.join(new) or 'nothing new'}")


def main() -> int:
    """Run the flow; return the process's exit status."""
    return command.ended(watch(return_state=True))
