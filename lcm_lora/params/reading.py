"""Read YAML into sections, and name what is wrong in one line."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from lcm_lora.errors import UserError
from lcm_lora.params.plain import check_plain, dotted, read_yaml
from lcm_lora.params.section import Section

SectionT = TypeVar("SectionT", bound=Section)

_LONGEST = 300
"""Characters of a message that are shown."""

_SURELY_MEANT = 0.75
"""Likeness of two names; that of any two sections is below."""


def load_section(path: Path, section: type[SectionT]) -> SectionT:
    """Read and check one section of a parameter file, the one named as its class is.

    Raises:
        UserError: The file is missing, is no YAML, or the section is missing or wrong.
    """
    name = section.__name__.lower()
    raw = read_yaml(path)
    if name in raw:
        return parse(section, raw[name], f"{path}: {name}")
    others = [key for key in raw if isinstance(key, str)]
    if close := difflib.get_close_matches(name, others, n=1, cutoff=_SURELY_MEANT):
        raise UserError(f"{path}: {close[0]}: no such section; did you mean `{name}`?")
    raise UserError(f"{path}: {name}: the section is missing; see `lcm-lora params`")


def parse(section: type[SectionT], raw: Any, where: str) -> SectionT:
    """Check parameters that came from `where`.

    Raises:
        UserError: One is wrong, missing or unknown.
    """
    check_plain(raw, where)
    try:
        # Through JSON: strict there still takes a list for a tuple and a string for a path.
        return section.model_validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        raise UserError(f"{where}: {_first_line(error, section, raw)}") from None


def _first_line(error: ValidationError, section: type[Section], raw: Any) -> str:
    """Return the most telling problem: a misspelt name comes before what it leaves missing."""
    ranks = {"extra_forbidden": 0, "missing": 2}
    problem = min(error.errors(include_url=False), key=lambda found: ranks.get(found["type"], 1))
    what = _short(problem["msg"].removeprefix("Value error, "))
    if problem["type"] == "extra_forbidden":
        kind = "section" if isinstance(problem["input"], dict) else "parameter"
        what = f"no such {kind}{_hint(section, problem['loc'])}"
    elif problem["type"] == "missing":
        what += "; `lcm-lora params shapes` shows one"
    elif not (problem["type"] == "value_error" and isinstance(problem["input"], dict)):
        what += f"; got {json.dumps(problem['input'])[:80]}"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return ": ".join(filter(None, [dotted(_place(problem["loc"], raw)), what + more]))


def _short(text: str) -> str:
    """Return a message with the middle left out where it quotes much of the file."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}...{text[-_LONGEST // 2 :]}"


def _place(loc: tuple[int | str, ...], raw: Any) -> list[int | str]:
    """Return a place as the file has it, without pydantic's names for the choices of a union."""
    place = []
    for part in loc[:-1]:
        if part in raw if isinstance(raw, dict) else isinstance(part, int):
            raw = raw[part]
            place.append(part)
    return [*place, *(part for part in loc[-1:] if part != "[key]")]


def _hint(section: type[Section], loc: tuple[int | str, ...]) -> str:
    """Return what was probably meant by the unknown name that `loc` ends in."""
    name, siblings = str(loc[-1]), _siblings(section, loc)
    if name in siblings:
        return " of this kind; remove it"
    paths = dict(reversed(list(_paths(section))))  # the first of each name
    if close := difflib.get_close_matches(name, siblings, n=1):
        return f"; did you mean `{close[0]}`?"
    if close := difflib.get_close_matches(name, paths, n=1):
        return f"; did you mean `{paths[close[0]]}`?"
    return "; `lcm-lora params shapes` lists all"


def _siblings(section: type[Section], loc: tuple[int | str, ...]) -> list[str]:
    """Return the names that exist where `loc` ends."""
    level = [section]
    for part in loc[:-1]:
        fields = [one.model_fields[str(part)] for one in level if part in one.model_fields]
        if fields:
            level = [inner for field in fields for inner in _sections_in(field.annotation)]
    return [name for one in level for name in one.model_fields]


def _paths(section: type[Section], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield every parameter's name and dotted place."""
    for name, field in section.model_fields.items():
        for inner in _sections_in(field.annotation):
            yield from _paths(inner, f"{above}{name}.")
        yield name, above + name


def _sections_in(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in get_args(annotation):
        yield from _sections_in(part)
