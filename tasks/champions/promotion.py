"""Who is champion: a decision is carried out once, and nobody is overtaken unawares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal

from mlflow.entities.model_registry import ModelVersion
from prefect import task
from prefect.cache_policies import NO_CACHE

from lcm_lora.gate.decision import Decision
from lcm_lora.params.registry import Registry
from tasks.champions.activation import Office, OvertakenError, activate, opened
from tasks.champions.champion import is_overtaken
from tasks.history.entry import GATE, Entry, Note, decision_sha256, scores_of
from tasks.history.succession import is_rolled_back, outcome_of
from tasks.registry.aliases import CHALLENGER, CHAMPION
from tasks.registry.versions import Registered, version_of
from tasks.servers import events
from tasks.tracking.tracker import Tracker

Move = Literal[
    "promoted",
    "challenger",
    "proposed",
    "champion already",
    "carried out before",
    "refused before",
    "rolled back before",
    "overtaken",
]
"""What came of a decision; `proposed` if a person has the last word; `overtaken` if somebody else
became champion meanwhile."""

_HAPPENINGS: dict[Move, events.Happening] = {
    "challenger": "adapter.kept",
    "proposed": "adapter.proposed",
    "rolled back before": "adapter.proposed",
}
"""Of moves that make a version the challenger."""
_AGAINST, _DONE = "judged_against", "carried_out"


def crowned(tracker: Tracker, name: str, decision: Decision) -> Registered | None:
    """Return the adapter's version if it is champion, by a comparison that this one is no news to.

    That is one with itself, or with nobody, where the champion before it is not here: what is said
    of the version and in its run tells how it became champion, and has to stay.
    """
    version = version_of(tracker, name, decision.adapter_sha256)
    if version is None or version.tags.get(_AGAINST) in {None, _rival(decision)}:
        return None
    aliases = tracker.client.get_registered_model(name).aliases
    if str(aliases.get(CHAMPION)) != str(version.version):
        return None
    return Registered(name, str(version.version), is_new=False)


@task(task_run_name="promote", cache_policy=NO_CACHE)
def promote(
    tracker: Tracker, registered: Registered, decision: Decision, registry: Registry
) -> Move:
    """Carry out a decision once: the winner is champion, or waits for a person's word.

    Only if the champion still is the one that was compared: of two runs at once, one wins. And only
    once: who moves the alias afterwards, by hand, has the last word on what that decision said.

    Raises:
        UserError: The version is not fit to be champion, or MLflow is lost; nothing has changed.
    """
    client, name = tracker.client, registered.name
    with opened(client, name) as office:
        before, last = office.aliases().get(CHAMPION), office.journal.last
        move = _without_activation(tracker, office, registered, decision, registry)
    if move:
        return move
    note = Note(
        version=registered.version,
        before=before,
        by=GATE,
        why=decision.reason,
        approval="gate",
        decision=decision_sha256(decision),
        scores=scores_of(decision),
    )
    try:
        entry = activate(client, name, note, registry.smoke, last.number if last else 0)
    except OvertakenError:
        return "overtaken"
    return "promoted" if entry else "champion already"


def _without_activation(
    tracker: Tracker,
    office: Office,
    registered: Registered,
    decision: Decision,
    registry: Registry,
) -> Move | None:
    """Do what can be done at once; None if the version is to be activated."""
    version, aliases = registered.version, office.aliases()
    known = tracker.client.get_model_version(office.name, version)
    done = _done(known, decision)
    if aliases.get(CHAMPION) == version:
        if aliases.get(CHALLENGER) == version:
            office.set(CHALLENGER, None)
        if decision.promote and not done:
            _mark(office, version, decision, "champion already")
        return "champion already"
    if is_overtaken(tracker, office.name, decision):
        return "overtaken"
    for tag, value in {_AGAINST: _rival(decision), "gate": decision.reason}.items():
        office.tag(version, tag, value)
    move = _waiting(_since(office.journal.entries, known), version, decision, registry)
    if decision.promote and done == "champion already":
        move = "carried out before"
    # A challenger whom somebody removed stays away.
    if move and move in _HAPPENINGS and not done:
        office.set(CHALLENGER, version)
        payload = {"name": office.name, "version": version, "reason": decision.reason}
        events.emit(_HAPPENINGS[move], events.model(office.name), payload)
        _mark(office, version, decision, move)
    return move


def _since(entries: Iterable[Entry], version: ModelVersion) -> list[Entry]:
    """Return the entries since a version is there; those before are of one that was deleted."""
    made = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
    return [entry for entry in entries if entry.at >= made.isoformat(timespec="seconds")]


def _waiting(
    entries: Sequence[Entry], version: str, decision: Decision, registry: Registry
) -> Move | None:
    """Return why a version is not activated now; None if nothing speaks against it."""
    if not decision.promote:
        return "challenger"
    if end := outcome_of(entries, decision_sha256(decision)):
        return "refused before" if end.kind == "refused" else "carried out before"
    if is_rolled_back(entries, version):
        return "rolled back before"
    return "proposed" if registry.approval.by == "person" else None


def _mark(office: Office, version: str, decision: Decision, move: Move) -> None:
    """Note what came of a decision, where the journal has no entry of it."""
    office.tag(version, _DONE, f"{move}: {decision_sha256(decision)}")


def _done(version: ModelVersion, decision: Decision) -> str:
    """Return what came of a decision before, as `_mark` noted it; empty if nothing yet."""
    move, _, digest = version.tags.get(_DONE, "").partition(": ")
    return str(move) if digest == decision_sha256(decision) else ""


def _rival(decision: Decision) -> str:
    return decision.champion.version if decision.champion else "nobody"
