"""Promote: ask a person about a version that the gate lets pass, and carry out what they say."""

from __future__ import annotations

import sys

from flows import command, consent

if __name__ == "__main__":
    # Ahead of the imports, which take seconds: a child of this process does them and runs main().
    said = consent.promotion_parser().parse_args()
    shown = "" if said.yes else consent.asked(said.version)
    sys.exit(1 if shown is None else command.launch("flows.promote", more=["--shown", shown]))

import contextlib
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
from prefect.input.actions import read_flow_run_input
from prefect.states import Completed, Failed
from pydantic import Field

from flows import pages, proposal, registered, worker
from flows.consent import Name, Reason
from flows.judging import Judged
from lcm_lora.errors import UserError
from lcm_lora.params.file import Params
from tasks.champions import activation, approval, run_page
from tasks.champions.approval import Candidate
from tasks.history.entry import Note, decision_sha256
from tasks.registry.versions import Registered
from tasks.tracking.tracker import Tracker

_DAY = 86_400
_KEY = "approval"
_FORM = keyset_from_base_key(f"paused-{_KEY}")
_SECONDS_BETWEEN_LOOKS = 5


class Approval(RunInput):
    """The word of a person; the server takes no other form of it."""

    approve: bool = Field(description="Whether the version is to become champion.")
    by: Name
    why: Reason


@flow(name="promote", flow_run_name="promote")
def promote(
    version: str | None = None,
    by: Name | None = None,
    why: Reason | None = None,
    decision: str | None = None,
) -> State[Any]:
    """Show what a version rests on, wait for a person's word, and carry it out.

    Args:
        version: Its number; null for the challenger that awaits approval.
        by: Who has approved it already; null to ask.
        why: Their reason.
        decision: The hash of the one that they were shown; null for whatever it is by now.
    """
    worker.end_with_worker()
    try:
        with registered.reached() as (tracker, params):
            found = _shown(tracker, params.registry.name, version)
            if decision and decision != decision_sha256(found.decision):
                raise UserError(
                    f"{params.registry.name} version {found.version}: was judged anew since it was "
                    "shown; run again, and look once more"
                )
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
        title = proposal.title(found.version)
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
        _refuse(tracker, name, found, found.note(None, why))
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
            _offer(kind)
        raise FlowPauseTimeout from None


def _offer(kind: type[Approval]) -> None:
    """Put the form there, if the server went away between the pause and that."""
    with contextlib.suppress(httpx.TransportError):
        if read_flow_run_input(_FORM["schema"]) is None:
            kind.save(_FORM)


def _loaded(kind: type[Approval]) -> Approval:
    loaded = kind.load(_FORM)
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
        _refuse(tracker, name, found, note)
        came_to = f"{title}: refused by {word.by}"
    elif activation.activate(tracker.client, name, note, params.registry.smoke, found.known):
        about = Registered(name, found.version, is_new=False)
        run_page.write(tracker, about, found.table, found.decision, "promoted")
        came_to = f"{title}: champion, approved by {word.by}"
    else:
        came_to = f"{title}: is champion already"
    pages.rename(came_to)
    return f"{name} {came_to}"


def _refuse(tracker: Tracker, name: str, found: Candidate, note: Note) -> None:
    approval.refuse(tracker.client, name, note)
    about = Registered(name, found.version, is_new=False)
    # No task: of a run that waited for too long the server takes none any more.
    run_page.write.fn(tracker, about, found.table, found.decision, "refused before")


def main() -> int:
    """Run the flow with the word that was given; return the process's exit status."""
    said = consent.promotion_parser().parse_args()
    version, _, decision = said.shown.partition(" ")
    what = (version or said.version, said.by, said.why, decision or None)
    return command.ended(promote(*what, return_state=True))
