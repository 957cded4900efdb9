"""Bring a Prefect server from whatever it has to pools, deployments and automations as wanted."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from rich.console import Console

import flows  # noqa: F401  # prepares the environment, before Prefect reads it
from lcm_lora.errors import UserError
from tasks.servers import deployments, pools, prefect_server
from tasks.servers.automations import (
    LOST_AFTER,
    Change,
    find_block,
    lost_runs,
    notifications,
    settle,
)

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_TEMPLATES = Path("infra/pools")
_FILE = Path("prefect.yaml")


def main(arguments: Sequence[str] | None = None) -> int:
    """Bring everything; return the process's exit status."""
    asked = _parser().parse_args(arguments)
    say = Console(soft_wrap=True, highlight=False).print
    complain = Console(stderr=True, soft_wrap=True, highlight=False).print
    try:
        with prefect_server.reached() as client:
            for what, change in bring(client, asked):
                say(f"{change:<11}{what}", markup=False)
        if asked.webhook:
            say(f"{_bring_webhook(asked.webhook):<11}webhook of MLflow", markup=False)
    except UserError as error:
        complain(f"error: {error}", markup=False)
        return 1
    return 0


def bring(client: SyncPrefectClient, asked: argparse.Namespace) -> Iterator[tuple[str, Change]]:
    """Bring pools, queues, deployments and automations, and yield what became of each.

    Raises:
        UserError: prefect.yaml or a job template is missing or wrong, a pool is of another kind, or
            there is no such block.
    """
    wanted = deployments.read_wanted(_FILE)
    told = notifications(find_block(client, asked.notify)) if asked.notify else ()
    for name in pools.POOLS:
        yield f"pool {name}", pools.bring(client, name, asked.pools, _TEMPLATES)
    places = {(one.work_pool.name, one.work_pool.work_queue_name) for one in wanted}
    for pool, queue in sorted(places):
        if queue != deployments.DEFAULT_QUEUE:
            yield f"queue {pool}/{queue}", pools.bring_queue(client, pool, queue)
    after = timedelta(seconds=asked.lost_after)
    automations = [lost_runs(after, begin_at_once=pools.are_processes(client)), *told]
    for one in wanted:
        deployed = deployments.deploy(client, one)
        automations.extend(deployed.triggers)
        yield f"deployment {deployed.name}", deployed.change
    for automation in automations:
        yield f"automation {automation.name}", settle(client, automation)


def _bring_webhook(url: str) -> Change:
    from tasks.servers import webhooks
    from tasks.tracking.connecting import reading  # MLflow takes seconds, and few ask for it

    with reading() as client:
        return webhooks.bring(client, url)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.deploy",
        description=f"Bring {_FILE} and {_TEMPLATES} to the server at PREFECT_API_URL.",
    )
    parser.add_argument(
        "--pools", choices=get_args(pools.Kind), help="what runs the jobs of pools that are new"
    )
    parser.add_argument(
        "--lost-after",
        type=int,
        default=LOST_AFTER.seconds,
        metavar="SECONDS",
        help="without a sign of life, until a run is taken for dead and its stages are sent again; "
        "longer than the server is ever away (%(default)s)",
    )
    parser.add_argument(
        "--notify",
        metavar="TYPE/NAME",
        help="the notification block that tells of failures, approvals, champions and drift",
    )
    parser.add_argument(
        "--webhook",
        metavar="URL",
        help="where MLflow posts that a version was made or an alias moved, by hand too",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
