"""Which entries of a journal are sound, and what was done to the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.history.entry import Entry, hash_of

Head = tuple[int, str]
"""Number and hash of the last entry; `(0, "")` before the first."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry as it is stored."""

    entry: Entry
    text: str
    run_id: str
    is_ended: bool = False
    is_deleted: bool = False
    """Somebody put its run into MLflow's bin."""

    @property
    def sha256(self) -> str:
        """The hash of what is stored."""
        return hash_of(self.text)


@dataclass(frozen=True, slots=True)
class Chain:
    """The entries that hang together, from the head down to the first."""

    sound: list[Stored]
    """The first one first."""
    head: Head
    """Of the last entry, also if the registered model does not know of it yet."""
    damages: list[str]
    """In words, by number."""


def chained(stored: Sequence[Stored], head: Head) -> Chain:
    """Follow the hashes from the head that the registered model knows.

    Args:
        stored: Every entry, in the order of their making; the same text twice, as when a server's
            answer was lost and its client asked again, is one.
        head: What the registered model knows as the last.
    """
    by_number: dict[int, list[Stored]] = defaultdict(list)
    for one in {one.text: one for one in reversed(stored)}.values():
        by_number[one.entry.number].insert(0, one)
    head = _extended(by_number, head)
    sound, damages, expected = [], list[tuple[int, str]](), head[1]
    for number in range(head[0], 0, -1):
        there = by_number.pop(number, [])
        right = [one for one in there if one.sha256 == expected or not expected]
        if right:
            sound.append(right[0])
            damages += [(number, _inserted(one)) for one in there if one is not right[0]]
            damages += [(number, _deleted(right[0]))] * right[0].is_deleted
        elif there:
            was = f"was changed (run {there[0].run_id})"
            damages.append((number, f"entry {number} {was}{_unproved(number)}"))
            damages += [(number, _inserted(one)) for one in there[1:]]
        else:
            damages.append((number, f"entry {number} was removed{_unproved(number)}"))
        # Of an entry that is not sound, what it says of the one before counts for nothing.
        expected = right[0].entry.previous if right else ""
    for number, others in by_number.items():
        damages += [(number, _inserted(one)) for one in others]
    return Chain(sound[::-1], head, [words for _, words in sorted(damages)])


def _extended(by_number: dict[int, list[Stored]], head: Head) -> Head:
    """Return the head with what was entered by somebody who died before the model knew of it."""
    while following := [
        one for one in by_number.get(head[0] + 1, []) if one.entry.previous == head[1]
    ]:
        head = head[0] + 1, following[0].sha256
    return head


def _unproved(number: int) -> str:
    """Say what an entry that is not sound leaves unproved: it had the hash of the one before."""
    return f", so entry {number - 1} cannot be proved" if number > 1 else ""


def _inserted(one: Stored) -> str:
    return f"an entry {one.entry.number} was inserted (run {one.run_id})"


def _deleted(one: Stored) -> str:
    return (
        f"entry {one.entry.number} was deleted; `mlflow runs restore --run-id {one.run_id}` "
        "brings it back"
    )
