"""What can befall a file that one stage hands to another: each damage, as contents it leaves."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

Damage = Callable[[bytes], Iterator[bytes | None]]
"""Yields contents that a file may have after the damage; None where the file is gone."""

_MARK = "!a mark that NaN takes the place of!"


def missing(content: bytes) -> Iterator[bytes | None]:
    yield None


def empty(content: bytes) -> Iterator[bytes | None]:
    yield b""


def truncated(content: bytes) -> Iterator[bytes | None]:
    """Cut within; the last byte of a record is a newline, which says nothing."""
    for length in (1, len(content) // 4, len(content) // 2, len(content) - 2):
        yield content[:length]


def flipped(content: bytes) -> Iterator[bytes | None]:
    """Turn all bits of one byte, in the middle and elsewhere: no text stays UTF-8."""
    places = {len(content) // 2, *random.Random(0).sample(range(len(content)), 20)}
    for place in sorted(places):
        yield content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]


def bit(content: bytes) -> Iterator[bytes | None]:
    """Turn the lowest bit of one byte: of a digit, it makes another digit."""
    for place in random.Random(0).sample(range(len(content)), min(len(content), 200)):
        yield content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def other(content: bytes) -> Iterator[bytes | None]:
    """Put other JSON in its place."""
    for text in ("[]", "{}", "null", "7", '"text"', '[{"a": 1}]', '{"a": 1}'):
        yield f"{text}\n".encode()


def unknown_key(content: bytes) -> Iterator[bytes | None]:
    """Add keys that say what went wrong in more than a line, and that a terminal would obey."""
    for key in ("a", "a\nb", "\x1b[31m", "a" * 100_000):
        yield from _changed(content, lambda value, key=key: value | {key: 1})  # type: ignore[misc]


def nan(content: bytes) -> Iterator[bytes | None]:
    """Put a number that is not finite in the place of each value, one at a time."""
    for number in ("NaN", "-Infinity", "1e999"):
        for changed in _each_leaf(content):
            yield changed.replace(json.dumps(_MARK).encode(), number.encode())


def nested(content: bytes) -> Iterator[bytes | None]:
    yield b"[" * 100_000
    yield b'{"a":' * 100_000
    yield from (
        changed.replace(json.dumps(_MARK).encode(), b"[" * 100_000)
        for changed in list(_each_leaf(content))[:1]
    )


def garbage(content: bytes) -> Iterator[bytes | None]:
    yield random.Random(0).randbytes(5000)
    yield b"\x00" * len(content)
    yield b"\xff\xfe" + content


DAMAGES: tuple[Damage, ...] = (
    missing,
    empty,
    truncated,
    flipped,
    other,
    unknown_key,
    nan,
    nested,
    garbage,
)


def _changed(content: bytes, change: Callable[[Any], Any]) -> Iterator[bytes]:
    """Yield a record, or JSON lines with the middle one, after a change; of no JSON, nothing."""
    try:
        lines = [json.loads(line) for line in content.splitlines()]
    except ValueError:
        try:
            yield json.dumps(change(json.loads(content))).encode() + b"\n"
        except ValueError:
            return
    else:
        middle = len(lines) // 2
        lines[middle] = change(lines[middle])
        yield b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _each_leaf(content: bytes) -> Iterator[bytes]:
    """Yield a record with a mark in the place of a value, for every value but a list's later."""
    leaves: list[tuple[Any, ...]] = []
    list(_changed(content, lambda value: leaves.extend(_leaves(value)) or value))  # type: ignore[func-returns-value]
    for leaf in leaves:
        yield from _changed(content, lambda value, leaf=leaf: _marked(value, leaf))  # type: ignore[misc]


def _leaves(value: Any) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from ((key, *rest) for rest in _leaves(entry))
    elif isinstance(value, list) and value:
        yield from ((0, *rest) for rest in _leaves(value[0]))
    else:
        yield ()


def _marked(value: Any, leaf: tuple[Any, ...]) -> Any:
    changed = copy.deepcopy(value)
    *way, last = leaf
    place = changed
    for key in way:
        place = place[key]
    place[last] = _MARK
    return changed
