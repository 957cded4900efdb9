"""The training curve: one row a step, as JSON lines."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lcm_lora.errors import UserError
from lcm_lora.records import Record, parse_record, read_bytes

CURVE = "curve.jsonl"


class CurveRow(Record):
    """One step of a training curve; steps count from 1."""

    step: int
    loss: float
    grad_norm: float | None
    """Before clipping; None where it overflowed, as fp16 does while its scale settles."""
    learning_rate: float


def curve_lines(rows: Iterable[CurveRow]) -> bytes:
    """Return rows as JSON lines."""
    return b"".join(row.model_dump_json().encode() + b"\n" for row in rows)


def read_curve(path: Path, mend: str) -> list[CurveRow]:
    """Read a curve that is complete.

    Raises:
        UserError: It is missing or damaged; `mend` says what the user can do.
    """
    content = read_bytes(path, mend)
    if not content.endswith(b"\n"):
        raise UserError(f"{path}: damaged, its last row is not complete; {mend}")
    rows = []
    for number, line in enumerate(content.splitlines(), 1):
        where = f"{path}:{number}"
        rows.append(parse_record(line, CurveRow, where, mend))
        if rows[-1].step != number:
            raise UserError(f"{where}: damaged, holds step {rows[-1].step}; {mend}")
    return rows
