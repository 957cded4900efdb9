"""Who was champion after whom, as the entries of the journal tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tasks.history.entry import Entry


def is_crowning(entry: Entry) -> bool:
    """Tell whether somebody became champion by what an entry says."""
    return entry.kind in {"champion", "by hand"}


def has_begun(entries: Iterable[Entry]) -> bool:
    """Tell whether the journal knows of any champion."""
    return any(map(is_crowning, entries))


def champion_of(entries: Sequence[Entry]) -> str | None:
    """Return who is champion as far as the journal knows."""
    last = next(filter(is_crowning, reversed(entries)), None)
    return last.version if last else None


def champions(entries: Iterable[Entry]) -> list[str]:
    """Return everybody who was champion once, the first one first."""
    return list(dict.fromkeys(e.version for e in entries if is_crowning(e) and e.version))


def predecessor(entries: Sequence[Entry]) -> str | None:
    """Return whom a rollback returns to: the champion before, without those that were rolled back.

    So a second rollback in a row goes one further back.
    """
    line: list[str] = []
    for entry in filter(is_crowning, entries):
        if entry.is_rollback and entry.version in line:
            line = line[: line.index(entry.version)]
        if entry.version and line[-1:] != [entry.version]:
            line.append(entry.version)
    if champion_of(entries) is None:
        return line[-1] if line else None
    return line[-2] if len(line) > 1 else None


def is_rolled_back(entries: Sequence[Entry], version: str) -> bool:
    """Tell whether a person turned away from a version, and nobody has returned to it since.

    By rolling back, or by moving the alias by hand.
    """
    if version not in champions(entries):
        return False  # it has the number of another, which was deleted
    for entry in filter(is_crowning, reversed(entries)):
        if entry.version == version:
            return False
        if (entry.is_rollback or entry.kind == "by hand") and entry.before == version:
            return True
    return False


def outcome_of(entries: Iterable[Entry], decision: str) -> Entry | None:
    """Return the entry by which a decision was carried out, or refused by a person."""
    ends = (e for e in entries if e.decision == decision and e.kind in {"champion", "refused"})
    return next(ends, None)


def ended(end: Entry) -> str:
    """Say what came of a decision, by the entry that `outcome_of` returns."""
    if end.kind == "champion":
        return f"version {end.version} became champion at {end.at} by this decision"
    return f"version {end.version} was refused at {end.at}: {end.why}"
