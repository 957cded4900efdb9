"""The account of what came of a source."""

from __future__ import annotations

from lcm_lora.records import Record

_EXAMPLES = 5


class Rejected(Record):
    """How many were rejected for one reason, and the first names."""

    count: int
    examples: tuple[str, ...]


class PreparedUnit(Record):
    """A unit of the source, and how many of its pictures went where."""

    name: str
    sha256: str
    train: int
    held_out: int
    selection: int


class Prepared(Record):
    """What came of the source, unit by unit, and every rejection with its reason."""

    units: tuple[PreparedUnit, ...]
    counts: dict[str, int]
    rejected: dict[str, Rejected]


def merged(one: dict[str, Rejected], other: dict[str, Rejected]) -> dict[str, Rejected]:
    """Return the rejections of both, the first names first."""
    result = dict(one)
    for reason, more in other.items():
        old = result.get(reason, Rejected(count=0, examples=()))
        examples = (*old.examples, *more.examples)[:_EXAMPLES]
        result[reason] = Rejected(count=old.count + more.count, examples=examples)
    return result


def first_units(prepared: Prepared, wanted: int) -> tuple[tuple[str, str], ...]:
    """Return name and hash of the first units, up to `wanted` held-out samples."""
    found, units = 0, []
    for unit in prepared.units:
        if found >= wanted:
            break
        found += unit.held_out
        units.append((unit.name, unit.sha256))
    return tuple(units)
