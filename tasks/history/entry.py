"""An entry of the journal: who was champion when, why, on whose word, and on which scores."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from lcm_lora.gate.decision import Decision
from lcm_lora.records import Open, Record

Kind = Literal["intent", "champion", "refused", "failed", "by hand"]
"""`intent` before the alias moves, `champion` once it has; `by hand` if somebody moved it alone."""

GATE = "gate"
"""By whom a version is promoted that no person was asked about."""

_MOST_NUMBERS = 12


class Scores(Record):
    """What the gate said, and a few numbers that it rests on."""

    reason: str
    numbers: dict[str, float]


class Note(Record):
    """What there is to enter: which version, in whose place, on whose word."""

    version: str | None
    """Whom it is about, by number; null if nobody is champion any more."""
    before: str | None
    """Who was champion; null if nobody was."""
    by: str | None
    """`gate`, or a person; null if nobody knows."""
    why: str
    approval: Literal["gate", "person"] | None = None
    """Who had the last word."""
    decision: str | None = None
    """The hash of the decision that is carried out; see `decision_sha256`."""
    scores: Scores | None = None
    cost: Open | None = None
    """What the version took, as its tag `cost` says."""
    challenger: str | None = None
    """Of an intent: who bore that alias."""
    is_rollback: bool = False


class Entry(Note):
    """An entry of the journal."""

    number: int
    """From 1."""
    at: str
    """UTC, to the second."""
    kind: Kind
    previous: str
    """The hash of the entry before; empty in the first."""

    @property
    def text(self) -> str:
        """What is stored, and hashed."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)

    @property
    def title(self) -> str:
        """Such as `12 champion: version 3`."""
        return f"{self.number} {self.kind}: {who(self.version)}"


def who(version: str | None) -> str:
    """Return how a version is spoken of."""
    return f"version {version}" if version else "nobody"


def hash_of(text: str) -> str:
    """Return the hash of an entry's text."""
    return hashlib.sha256(text.encode()).hexdigest()


def decision_sha256(decision: Decision) -> str:
    """Return the hash by which a decision is known."""
    return hash_of(decision.model_dump_json())


def scores_of(decision: Decision) -> Scores:
    """Return what of a decision is entered: its reason, and what each rule looked at."""
    told = [rule for rule in decision.rules if rule.verdict != "no champion"]
    numbers = {f"{rule.kind} {rule.metric} {rule.cell}": rule.value for rule in told}
    return Scores(reason=decision.reason, numbers=dict(list(numbers.items())[:_MOST_NUMBERS]))
