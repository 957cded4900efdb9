"""Make a version champion in two phases: prepare it, then move the alias; or all is as it was.

Before the alias moves an intent is entered in the journal, and afterwards how it ended. Whoever
comes next completes or withdraws what somebody left who died in between, and enters what people
moved by hand.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from lcm_lora.errors import UserError, reason
from tasks.champions import smoke
from tasks.champions.champion import fetch_adapter
from tasks.history.entry import Entry, Note, who
from tasks.history.journal import Journal
from tasks.history.succession import champion_of, ended, has_begun, is_crowning, outcome_of
from tasks.registry.aliases import CHALLENGER, CHAMPION
from tasks.registry.claim import claimed
from tasks.registry.versions import spent_on

APPROVAL = "approval"
"""Tag of a version: `approved` or `refused`, as deployment jobs elsewhere have it."""

_CUT_OFF = "interrupted"
_UNKNOWN = "moved in MLflow by somebody who left no word"
_BEFORE = "was champion already when the journal began"
_WITHDRAWN = "withdrawn: whoever began it is gone, and the alias had not moved"


class OvertakenError(UserError):
    """Somebody else became champion meanwhile."""


@dataclass(frozen=True, slots=True)
class Office:
    """A registered model in the hands of one who may change it, and its journal."""

    client: MlflowClient
    name: str
    journal: Journal

    def aliases(self) -> dict[str, str]:
        """Return the versions by their aliases, as they are now."""
        found = self.client.get_registered_model(self.name).aliases
        return {alias: str(version) for alias, version in found.items()}

    def set(self, alias: str, version: str | None) -> None:
        """Give an alias to a version, or to none."""
        if version is not None:
            self.client.set_registered_model_alias(self.name, alias, version)
        elif alias in self.aliases():
            self.client.delete_registered_model_alias(self.name, alias)

    def tag(self, version: str, key: str, value: str) -> None:
        """Set a tag of a version."""
        self.client.set_model_version_tag(self.name, version, key, value)


@contextlib.contextmanager
def opened(client: MlflowClient, name: str) -> Iterator[Office]:
    """Hold the right to change a registered model; what was left or done by hand is entered first.

    Args:
        client: Of the registry.
        name: Of the registered model, which exists.

    Raises:
        UserError: The journal was deleted, or what somebody left cannot be completed now.
    """
    with claimed(client, name):
        office = Office(client, name, Journal(client, name))
        _settle(office)
        yield office


def activate(
    client: MlflowClient, name: str, note: Note, pictures: int, known: int | None = None
) -> Entry | None:
    """Make a version champion in the place of another.

    Args:
        client: Of the registry.
        name: Of the registered model.
        note: Which version, in whose place, on whose word.
        pictures: That it has to paint again before; with 0 it is only fetched and hashed.
        known: Number of the last entry that whoever gave the word knew of: if the same decision was
            carried out or refused by a later one, that stays. None: of all.

    Returns:
        The journal's entry; None if the version is champion already.

    Raises:
        OvertakenError: The champion is not the one in whose place it was to come, or somebody else
            has had the last word meanwhile.
        UserError: The version is not fit, or something failed; all is as it was.
    """
    assert note.version is not None
    try:
        smoke.check(client, name, note.version, pictures)
    except UserError as error:
        with opened(client, name) as office:
            office.journal.append("failed", _because(note, str(error)))
        raise
    with opened(client, name) as office:
        return _move(office, note, known)


def _move(office: Office, note: Note, known: int | None) -> Entry | None:
    aliases = office.aliases()
    holder = aliases.get(CHAMPION)
    if holder == note.version:
        return None
    if holder != note.before:
        raise OvertakenError(_who_won(office, note, holder))
    later = [e for e in office.journal.entries if known is not None and e.number > known]
    if note.decision and (end := outcome_of(later, note.decision)):
        raise OvertakenError(f"{office.name}: too late; {ended(end)}")
    more = {"challenger": aliases.get(CHALLENGER), "cost": _cost(office, note.version)}
    return _carry_out(office, office.journal.append("intent", note.model_copy(update=more)))


def _cost(office: Office, version: str | None) -> dict[str, Any] | None:
    """Return what a version took, as its tag says; None where it has none."""
    spent = spent_on(office.client.get_model_version(office.name, version))
    return spent.model_dump(mode="json") if spent else None


def _carry_out(office: Office, intent: Entry) -> Entry:
    """Do what an intent says, or enter that it failed; what is done already is done again.

    Raises:
        UserError: It failed, and all is as it was; or MLflow is lost, and whoever comes next ends
            it.
    """
    assert intent.version is not None
    try:
        # A last look: people move aliases too, and claim nothing.
        if (holder := office.aliases().get(CHAMPION)) not in {intent.before, intent.version}:
            raise OvertakenError(_who_won(office, intent, holder))
        office.set(CHAMPION, intent.version)
        _check(office, intent)
        if not intent.is_rollback:
            office.set(CHALLENGER, None)  # it was judged against the champion before
        if intent.approval:
            office.tag(intent.version, APPROVAL, "approved")
        return office.journal.append("champion", intent)
    except BaseException as error:
        said = reason(error) if isinstance(error, MlflowException) else str(error) or _CUT_OFF
        with contextlib.suppress(MlflowException):
            done = _taken_back(office, intent, said)
            if done and isinstance(error, MlflowException):
                return done
        if isinstance(error, MlflowException):
            raise UserError(
                f"{office.name} {who(intent.version)}: MLflow did not answer while it became "
                f"champion ({said}); run again, which ends it either way"
            ) from None
        raise


def _check(office: Office, intent: Entry) -> None:
    """Check that the alias now means a version, and that it is what was registered.

    Raises:
        OvertakenError: Somebody moved the alias at once.
        UserError: The version is not as it was registered.
    """
    found = office.client.get_model_version_by_alias(office.name, CHAMPION)
    if str(found.version) != intent.version:
        raise OvertakenError(_who_won(office, intent, str(found.version)))
    with TemporaryDirectory() as folder:
        fetch_adapter(found, Path(folder), "register it again")


def _taken_back(office: Office, intent: Entry, why: str) -> Entry | None:
    """Put everything back and enter why; or return the entry that says it is done after all."""
    office.journal.reread()
    if (last := office.journal.last) and last.kind == "champion":
        return last  # only the answer was lost
    aliases = office.aliases()
    if aliases.get(CHAMPION) == intent.version:
        office.set(CHAMPION, intent.before)
        if intent.challenger and CHALLENGER not in aliases:
            office.set(CHALLENGER, intent.challenger)
    office.journal.append("failed", _because(intent, why))
    return None


def _who_won(office: Office, note: Note, holder: str | None) -> str:
    """Say who is champion now, and on whose word."""
    begin = f"{office.name} {who(note.version)}: not promoted, since {who(holder)} became champion"
    entries = office.journal.entries
    if holder != champion_of(entries):
        return f"{begin} meanwhile, by hand; judge it again by `python -m flows.retrain`"
    last = next(e for e in reversed(entries) if e.version == holder and is_crowning(e))
    said = f"by {last.by or 'somebody'}: {last.why}"
    return f"{begin} at {last.at}, {said}; judge it again by `python -m flows.retrain`"


def _because(intent: Note, why: str) -> Note:
    return intent.model_copy(update={"why": why})


def _settle(office: Office) -> None:
    """End what somebody left who died, and enter who was made champion by hand."""
    journal = office.journal
    if (last := journal.last) and last.kind == "intent":
        _end(office, last)
    holder, known = office.aliases().get(CHAMPION), champion_of(journal.entries)
    if holder != known:
        why = _UNKNOWN if has_begun(journal.entries) else _BEFORE
        journal.append("by hand", Note(version=holder, before=known, by=None, why=why))


def _end(office: Office, intent: Entry) -> None:
    """Complete an intent if the alias has moved, and withdraw it otherwise."""
    if office.aliases().get(CHAMPION) != intent.version:
        office.journal.append("failed", _because(intent, f"{_WITHDRAWN}; {intent.why}"))
        return
    try:
        _carry_out(office, intent)
    except UserError:
        if office.journal.last == intent:  # nothing could be entered
            raise
