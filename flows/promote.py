"""Promote: ask a person about a version that the gate lets pass, and carry out what they say."""

from __future__ import annotations

import sys

from flows import command, consent

if __name__ == "__main__":
    # Ahead of the imports, which take seconds: a child of this process does them and runs main().
    said = consent.promotion_parser().parse_args()
    sys.exit((0 if said.yes else consent.asked(said.version)) or command.launch("flows.promote"))

import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from prefect import flow, runtime
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas import State
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput, keyset_from_base_key
from prefect.states import Completed, Failed
from pydantic import Field

from flows import pages, registered, worker
from flows.consent import Name, Reason
from flows.judging import Judged
from lcm_lora.errors import UserError
from lcm_lora.params.file import Params
from tasks import activation, approval, run_page
from tasks.approval import Candidate
from tasks.registry import Registered
from tasks.tracking import Tracker

_DAY = 86_400
_KEY = "approval"
_SECONDS_BETWEEN_LOOKS = 5


class Approval(RunInput):
    """The word of a person; the server takes no other form of it."""

    approve: bool = Field(description="Whether the version is to become champion.")
    by: Name
    why: Reason


@flow(name="promote", flow_run_name="promote")
def promote(
    version: str | None = None, by: Name | None = None, why: Reason | None = None
) -> State[Any]:
    """Show what a version rests on, wait for a person's word, and carry it out.

    Args:
        version: Its number; null for the challenger that awaits approval.
        by: Who has approved it already; null to ask.
        why: Their reason.
    """
    worker.end_with_worker()
    try:
        with registered.reached() as (tracker, params):
            found = _shown(tracker, params.registry.name, version)
            if by and why:
                word = Approval(approve=True, by=by, why=why)
            else:
                word = _asked(tracker, params, found)
            return Completed(message=_carried_out(tracker, params, found, word))
    except UserError as error:
        return Failed(message=str(error))


def _shown(tracker: Tracker, name: str, version: str | None) -> Candidate:
    """Return whom this is about, after putting all that it rests on on the run's page."""
    with TemporaryDirectory() as folder:
        here = replace(tracker, root=Path(folder))
        found = approval.candidate(here, name, version)
        version_of_it = Registered(name, found.version, is_new=False)
        judged = Judged(found.table, found.decision, version_of_it, "proposed")
        title = f"version {found.version}: approval"
        page = "\n".join(pages.verdict(here, judged, title))
    create_markdown_artifact(page, "approval", description=f"{name} {title}")
    pages.rename(title)
    return found


def _asked(tracker: Tracker, params: Params, found: Candidate) -> Approval:
    """Return what a person says; whoever is silent for too long has refused.

    Raises:
        UserError: Nobody said anything.
    """
    name, days = params.registry.name, params.registry.approval.days
    about = f"{name} version {found.version}: {found.decision.reason}"
    try:
        return _answer(Approval.with_initial_data(description=about), int(days * _DAY))
    except FlowPauseTimeout:
        why = f"nobody answered within {days:g} days"
        approval.refuse(tracker.client, name, found.note(None, why))
        # The server has ended the run already, with words of its own.
        pages.rename(f"version {found.version}: {why}")
        raise UserError(f"{name} version {found.version}: not promoted, {why}") from None


def _answer(kind: type[Approval], seconds: int) -> Approval:
    """Pause until somebody answers, though the server be away for a while.

    Raises:
        FlowPauseTimeout: Nobody did.
    """
    end = time.monotonic() + seconds
    try:
        return pause_flow_run(kind, seconds, poll_interval=_SECONDS_BETWEEN_LOOKS, key=_KEY)
    except httpx.TransportError:
        while time.monotonic() < end:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            if _is_resumed():
                return _loaded(kind)
        raise FlowPauseTimeout from None


def _loaded(kind: type[Approval]) -> Approval:
    loaded = kind.load(keyset_from_base_key(f"paused-{_KEY}"))
    assert isinstance(loaded, Approval)
    return loaded


def _is_resumed() -> bool:
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(runtime.flow_run.id).state
    except httpx.TransportError:
        return False
    return state is not None and state.is_running()


def _carried_out(tracker: Tracker, params: Params, found: Candidate, word: Approval) -> str:
    """Return what came of a person's word.

    Raises:
        UserError: The version could not become champion; all is as it was.
    """
    name, note = params.registry.name, found.note(word.by, word.why)
    title = f"version {found.version}"
    if not word.approve:
        approval.refuse(tracker.client, name, note)
        came_to = f"{title}: refused by {word.by}"
    elif activation.activate(tracker.client, name, note, params.registry.smoke):
        about = Registered(name, found.version, is_new=False)
        run_page.write(tracker, about, found.table, found.decision, "promoted")
        came_to = f"{title}: champion, approved by {word.by}"
    else:
        came_to = f"{title}: is champion already"
    pages.rename(came_to)
    return f"{name} {came_to}"


def main() -> int:
    """Run the flow with the word that was given; return the process's exit status."""
    said = consent.promotion_parser().parse_args()
    return command.ended(promote(said.version, said.by, said.why, return_state=True))
