"""Announce a revision of the data: deployments that wait for one then retrain on it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console

from flows import worker
from lcm_lora.errors import UserError
from tasks.isolated.checkout import resolve
from tasks.servers import events, prefect_server


def main(arguments: Sequence[str] | None = None) -> int:
    """Emit the event; return the process's exit status."""
    asked = _parser().parse_args(arguments)
    try:
        commit = announce(asked.revision)
    except UserError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"error: {error}", markup=False)
        return 1
    Console(soft_wrap=True, highlight=False).print(f"announced {commit}", markup=False)
    return 0


def announce(revision: str | None) -> str:
    """Say to the server that the data of a revision are published; return its commit.

    Raises:
        UserError: The project has no such revision, or the server cannot be reached.
    """
    commit = resolve(worker.project(), revision)
    with prefect_server.reached() as client:
        events.post(client, "dataset.published", events.PROJECT, {"revision": commit})
    return commit


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.announce",
        description="Announce to the server at PREFECT_API_URL that a revision's data are pushed.",
    )
    parser.add_argument(
        "revision", nargs="?", metavar="REVISION", help="as git names it; HEAD if none is named"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
