"""The one error that users see."""

from __future__ import annotations

import errno
import re
import sqlite3
from collections.abc import Iterable
from typing import TypeVar

_Name = TypeVar("_Name", bound=str)
_NAMED = 3
"""How many of several names a message has."""


class UserError(Exception):
    """Something the user can mend. The message is one line: what, where, how to mend."""


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether a device or the machine had too little memory, in a library's words or ours."""
    # By name and text, since importing torch takes seconds.
    text = str(error)
    is_torchs = type(error).__name__ == "OutOfMemoryError" or "out of memory" in text
    return isinstance(error, MemoryError) or is_torchs or "DefaultCPUAllocator" in text


def one_of(value: str, known: Iterable[_Name]) -> _Name:
    """Return the known name that `value` is.

    Raises:
        UserError: It is none of them.
    """
    for name in known:
        if name == value:
            return name
    raise UserError(f"{value}: not known here; choose one of {', '.join(sorted(known))}")


def some(names: Iterable[object]) -> str:
    """Return a few of several names, and how many more there are."""
    all_names = [str(name) for name in names]
    more = len(all_names) - _NAMED
    return ", ".join(all_names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def reason(error: Exception) -> str:
    """Return in one line, cut short and without passwords, what another library raised."""
    return without_passwords(" ".join(f"{type(error).__name__}: {error}".split()))[:200]


def without_passwords(text: str) -> str:
    """Return a text without the names and passwords that addresses in it have."""
    return re.sub(r"(?<=://)[^\s/]+@", "", text)


def explained(error: OSError | sqlite3.OperationalError) -> str:
    """Return in one line what could not be done with a file or a database, and how to mend it."""
    if isinstance(error, sqlite3.OperationalError):
        return f"a database of this run: {error}; if the disk is full, free some, and run again"
    place = error.filename or "a file of this run"
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return f"{place}: no space left to write it; free some and run the same command again"
    if error.errno in {errno.EACCES, errno.EROFS, errno.EPERM}:
        return f"{place}: {error.strerror}; mend its permissions and run the same command again"
    if error.errno in {errno.ENOTDIR, errno.EEXIST, errno.EISDIR}:
        return f"{place}: {error.strerror}; move what is there out of the way"
    return f"{place}: {error.strerror or error}"
