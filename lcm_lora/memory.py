"""SQLite files that remember what saves work: no results, so they may be lost at any time."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Self

_SECONDS_TO_WAIT = 60


class Memory:
    """A file with one table; made anew where it is damaged, in memory where there is no space.

    Every statement counts at once, so that no process waits long for another.
    """

    def __init__(self, path: Path, table: str) -> None:
        """Open the file `path`; `table` is its name and columns, as SQL says them."""
        self._path = path
        self._database = _open(path, table)

    def __enter__(self) -> Self:
        """Return the memory itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._database.close()


def _open(path: Path, table: str) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    for place in (str(path), str(path)):
        try:
            return _connected(place, table)
        except sqlite3.Error:
            path.unlink(missing_ok=True)
    return _connected(":memory:", table)


def _connected(place: str, table: str) -> sqlite3.Connection:
    database = sqlite3.connect(place, timeout=_SECONDS_TO_WAIT, isolation_level=None)
    database.execute("pragma synchronous = off")  # what a crash loses is made anew
    database.execute(f"create table if not exists {table}")
    return database
