"""SQLite files that remember what saves work: no results, so they may be lost at any time."""

from __future__ import annotations

import sqlite3
from pathlib import Path

_SECONDS_TO_WAIT = 60


def open_memory(path: Path, table: str) -> sqlite3.Connection:
    """Open a file with one table; made anew where it is damaged, in memory where there is no space.

    Every statement counts at once, so that no process waits long for another.

    Args:
        path: The file.
        table: Its name and columns, as SQL says them.
    """
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
