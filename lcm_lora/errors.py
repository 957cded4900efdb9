"""The one error that users see."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

_Name = TypeVar("_Name", bound=str)


class UserError(Exception):
    """Something the user can mend. The message is one line: what, where, how to mend."""


def one_of(value: str, known: Iterable[_Name]) -> _Name:
    """Return the known name that `value` is.

    Raises:
        UserError: It is none of them.
    """
    for name in known:
        if name == value:
            return name
    raise UserError(f"{value}: not known here; choose one of {', '.join(sorted(known))}")


def reason(error: Exception) -> str:
    """Return in one line, cut short, what an exception of another library says."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
