"""The decision about an adapter as a record: rule by rule, what was asked and what came out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lcm_lora.champion_record import Champion
from lcm_lora.records import Record, read_record

RuleKind = Literal["limit", "target", "guard"]
RuleVerdict = Literal["passed", "failed", "no champion"]


class Rule(Record):
    """One rule of the gate, at one step count, and how it came out."""

    kind: RuleKind
    """A limit is absolute; a target must be better than the champion; a guard not worse."""
    cell: str
    """The adapter's cell."""
    metric: str
    title: str
    lower_is_better: bool
    bound: float
    """The limit; or the margin by which a target must be better, or a guard may be worse."""
    value: float
    """The metric of a limit; the difference, adapter minus champion, of the others."""
    low: float
    high: float
    """The ends of the value's interval."""
    verdict: RuleVerdict
    words: str
    """One line for people."""


class Decision(Record):
    """Whether the adapter should become champion, by which rules, on which table."""

    promote: bool
    reason: str
    """One line for people: the rule that stops it, or what it is better at."""
    champion: Champion | None
    adapter_sha256: str
    protocol_sha256: str
    rules: tuple[Rule, ...]


def read_decision(path: Path) -> Decision:
    """Read a decision.

    Raises:
        UserError: The file is missing or is no decision.
    """
    return read_record(path, Decision, "run `lcm-lora decide`")
