"""What a person is asked about: a version that the gate lets pass, and all that it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from lcm_lora import layout
from lcm_lora.errors import UserError
from lcm_lora.evaluation.scores import Table, read_table
from lcm_lora.gate.decision import Decision, read_decision
from tasks.champions import champion
from tasks.champions.activation import APPROVAL, opened
from tasks.history.entry import Note, decision_sha256, scores_of
from tasks.history.succession import ended, outcome_of
from tasks.registry.aliases import CHALLENGER, CHAMPION
from tasks.registry.evidence import Evidence
from tasks.registry.reference import find
from tasks.tracking.tracker import Tracker

_MEND = "run `python -m flows.retrain`, which judges the adapter of the project"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version that may become champion if a person says so."""

    version: str
    before: str | None
    """In whose place."""
    known: int
    """Number of the journal's last entry, when all this was looked up."""
    decision: Decision
    table: Table

    def note(self, by: str | None, why: str) -> Note:
        """Return what is entered of a person's word; by None if nobody gave one."""
        return Note(
            version=self.version,
            before=self.before,
            by=by,
            why=why,
            approval="person",
            decision=decision_sha256(self.decision),
            scores=scores_of(self.decision),
        )


def candidate(tracker: Tracker, name: str, version: str | None) -> Candidate:
    """Return the version that a person is asked about, with the evidence that it rests on.

    Args:
        tracker: Of a folder that is this version's alone; files of its evidence are brought there.
        name: Of the registered model.
        version: Its number; None for the challenger that awaits approval.

    Raises:
        UserError: There is none, it has no scores, or the gate does not let it pass.
    """
    with opened(tracker.client, name) as office:
        aliases, entries = office.aliases(), office.journal.entries
    wanted = version or _challenger(name, aliases)
    found = find(tracker.client, f"models:/{name}/{wanted}", "name a version that it has")
    number = str(found.version)
    title = f"{name} version {number}"
    if aliases.get(CHAMPION) == number:
        raise UserError(f"{title}: is the champion already; name another version")
    decision, table = _judged(found, tracker.root)
    end = outcome_of(entries, decision_sha256(decision))
    if version is None and end:
        raise UserError(f"{name}: nobody awaits approval; {ended(end)}, so name the version")
    if not decision.promote:
        raise UserError(f"{title}: the gate keeps the champion: {decision.reason}")
    if champion.is_overtaken(tracker, name, decision):
        against = decision.champion.version if decision.champion else "nobody"
        raise UserError(
            f"{title}: was compared with {against}, and the champion is another by now; {_MEND}"
        )
    known = entries[-1].number if entries else 0
    return Candidate(number, aliases.get(CHAMPION), known, decision, table)


def refuse(client: MlflowClient, name: str, note: Note) -> None:
    """Enter that a version is not to become champion by the decision that a person was shown.

    Raises:
        UserError: Somebody else has had the last word on it meanwhile, and that stays.
    """
    assert note.version is not None
    with opened(client, name) as office:
        if note.decision and (end := outcome_of(office.journal.entries, note.decision)):
            raise UserError(f"{name}: too late to refuse; {ended(end)}")
        office.tag(note.version, APPROVAL, "refused")
        office.journal.append("refused", note)


def _challenger(name: str, aliases: dict[str, str]) -> str:
    if CHALLENGER in aliases:
        return aliases[CHALLENGER]
    raise UserError(f"{name}: nobody awaits approval; name a version, or {_MEND}")


def _judged(version: ModelVersion, folder: Path) -> tuple[Decision, Table]:
    """Return the decision about a version and the scores that it is about.

    Raises:
        UserError: It has none, or they are damaged.
    """
    evidence = Evidence(version, folder / layout.DECISION.parent)
    decision = read_decision(evidence.file(layout.DECISION.name))
    table = read_table(evidence.file(layout.SCORES.name))
    if f"{layout.REPORT.name}/grid.png" in evidence.names:
        evidence.file(f"{layout.REPORT.name}/grid.png")
    return decision, table
