"""Read YAML into plain values, whatever the file holds: bounded, finite and printable.

A parameter file may be hostile. It is bounded before anything is built of it, and every way to be
wrong ends in a `UserError` of one line.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lcm_lora.errors import UserError

_MOST_BYTES, _MOST_VALUES, _DEEPEST = 1_000_000, 10_000, 32
_BOUNDS = "parameters are far fewer and flatter; look for an alias or a bracket too many"

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def read_yaml(path: Path) -> dict[Any, Any]:
    """Return the mapping that a YAML file holds.

    Raises:
        UserError: The file is missing, is no YAML, or holds something else.
    """
    from ruamel.yaml import YAML, YAMLError

    text = _read_text(path)
    try:
        # YAML 1.2, as DVC reads it: 1e-4 is a number.
        _bound(YAML(typ="safe").parse(text), path)
        raw = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {_problem_of(error)}; mend it there") from None
    except UserError:
        raise
    except Exception as error:  # ruamel lets through whatever a key or the 31st of June may cause
        reason = _printable(error).partition(";")[0]
        raise UserError(f"{path}: cannot be read: {reason}; put odd values in quotes") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path}: holds no sections; `lcm-lora params shapes` shows how it looks")
    return raw


def check_plain(raw: Any, where: str) -> None:
    """Check that a value holds only what JSON can, and not too much of it.

    Raises:
        UserError: It holds something else; the message begins with `where` and names the place.
    """
    for count, (place, value) in enumerate(_values(raw)):
        if count > _MOST_VALUES or len(place) > _DEEPEST:
            raise UserError(f"{where}: too many values, or too deep; {_BOUNDS}")
        if problem := _wrong_with(value):
            raise UserError(": ".join(filter(None, [where, dotted(place), problem])))


def dotted(place: Iterable[object]) -> str:
    """Return the place of a parameter as people write it."""
    return ".".join(str(part)[:60] for part in place)


def _read_text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: not a file; move what is there out of the way")
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise UserError(f"{path}: larger than {_MOST_BYTES} bytes; {_BOUNDS}")
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file; `lcm-lora params shapes > {path}` makes one"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; mend that") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def _bound(events: Iterable[Any], path: Path) -> None:
    """Refuse YAML that would grow beyond all bounds, by its parser's events: nothing is built."""
    from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent

    count, unfinished = 0, list[tuple[str | None, int]]()
    sizes: dict[str | None, int] = {}  # what an alias stands for, by its anchor
    for event in events:
        if isinstance(event, AliasEvent):
            count += sizes.get(event.anchor, 0)
        elif isinstance(event, CollectionEndEvent):
            anchor, before = unfinished.pop()
            sizes[anchor] = count - before
        elif isinstance(event, NodeEvent):
            _refuse_tag(event, path)
            sizes[event.anchor] = 1
            if isinstance(event, CollectionStartEvent):
                unfinished.append((event.anchor, count))
                sizes[event.anchor] = _MOST_VALUES  # to name it within itself has no end
            count += 1
        if count > _MOST_VALUES or len(unfinished) > _DEEPEST:
            line = event.start_mark.line + 1
            raise UserError(f"{path}: line {line}: too many values, or too deep; {_BOUNDS}")


def _refuse_tag(event: Any, path: Path) -> None:
    if event.tag is not None:
        tag = _printable(event.tag).replace("tag:yaml.org,2002:", "!!")
        line = event.start_mark.line + 1
        raise UserError(f"{path}: line {line}: the tag {tag} is not read here; remove it")


def _problem_of(error: Any) -> str:
    """Return what a YAML parser complains about, and where."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return _printable(error).replace('in "<unicode string>", ', "at ")
    parts = filter(None, [error.context, error.problem])
    return f"line {mark.line + 1}: {_printable(' '.join(parts))}"


def _values(raw: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield every value with its place, one by one: by aliases, few may stand for billions."""
    pending: list[tuple[tuple[Any, ...], Any]] = [((), raw)]
    while pending:
        place, value = pending.pop()
        yield place, value
        if isinstance(value, dict):
            inner = list(value.items())
        else:
            inner = list(enumerate(value)) if isinstance(value, list | tuple) else []
        pending.extend(((*place, part), item) for part, item in reversed(inner))


def _wrong_with(value: Any) -> str | None:
    """Return what is wrong with a value, whatever parameter it is."""
    match value:
        case None | bool() | list() | tuple():
            return None
        case str():
            return "holds what cannot be printed; remove it" if _UNPRINTABLE.search(value) else None
        case int():
            return None if abs(value) < 2**63 else "too large a number; take a smaller one"
        case float():
            return None if math.isfinite(value) else f"{value} is not finite; take a finite number"
        case dict():
            return next((found for found in map(_wrong_with_name, value) if found), None)
        case datetime.date():
            return f"{value} reads as a date; put it in quotes"
    return f"{type(value).__name__} is no kind of parameter; take a number, a text or a list"


def _wrong_with_name(name: Any) -> str | None:
    if not isinstance(name, str):
        return f"the name {_printable(name)} is not text; take the name of a parameter"
    return _wrong_with(name)


def _printable(text: object) -> str:
    """Return text in one line of bounded length."""
    return _UNPRINTABLE.sub("?", " ".join(str(text).split()))[:200]
