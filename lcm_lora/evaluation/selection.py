"""What the candidates of a training came to, and which is the best."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lcm_lora.records import Record, read_record


class JudgedCandidate(Record):
    """A candidate: the step it was kept at, and its value with the standard error."""

    step: int
    value: float
    se: float


class Selection(Record):
    """The choice of a candidate: by what, and how each of them came out."""

    metric: str
    lower_is_better: bool
    steps: int
    guidance: float
    prompts: int
    rows: tuple[JudgedCandidate, ...]
    """In the order of their steps."""
    chosen: int
    """The step of the best one."""


def best(rows: Sequence[JudgedCandidate], lower_is_better: bool) -> JudgedCandidate:
    """Return the candidate of the best value; of equal ones the earliest.

    Errors are left aside: whatever candidate is taken within them, it costs little.
    """
    sign = 1 if lower_is_better else -1
    return min(rows, key=lambda row: (sign * row.value, row.step))


def read_selection(path: Path) -> Selection:
    """Read which candidate was chosen.

    Raises:
        UserError: The file is missing or damaged.
    """
    return read_record(path, Selection, "run `lcm-lora select`")
