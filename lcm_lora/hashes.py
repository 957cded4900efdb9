"""Content hashes of files, remembered by size and time of change: a terabyte is not read twice."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
from pathlib import Path
from typing import Self

from lcm_lora.errors import UserError
from lcm_lora.memory import Memory

_NS_TO_SETTLE = 50_000_000
"""A file may change twice in one tick of a file system's clock: younger ones are read anew."""


class Hashes(Memory):
    """SHA-256 of files, kept in one SQLite file that several processes may share.

    A hash is believed as long as the file's inode, size and time of change are what they were when
    it was read.
    """

    def __init__(self, path: Path) -> None:
        """Open the file `path`; without it, files are read again."""
        super().__init__(path, "hashes (path blob primary key, stamp text, sha256 text)")

    def sha256(self, path: Path) -> str:
        """Return the hash of a file, in hex.

        Raises:
            UserError: The file grows or changes while it is read.
            OSError: It is missing or cannot be read.
        """
        before = os.stat(path)
        name, stamp = os.fsencode(os.path.abspath(path)), _stamp(before)
        if known := self._known(name, stamp):
            return known
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            after = os.fstat(file.fileno())
        if _stamp(after) != stamp:
            raise UserError(
                f"{path}: changes while it is read; wait until it is complete, and run again"
            )
        if _is_settled(after):
            with contextlib.suppress(sqlite3.Error):
                self._database.execute(
                    "insert or replace into hashes values (?, ?, ?)", (name, stamp, digest)
                )
        return digest

    def _known(self, name: bytes, stamp: str) -> str | None:
        with contextlib.suppress(sqlite3.Error):
            found = self._database.execute(
                "select sha256 from hashes where path = ? and stamp = ?", (name, stamp)
            ).fetchone()
            return str(found[0]) if found else None
        return None

    def __reduce__(self) -> tuple[type[Self], tuple[Path]]:
        """Let another process open the same file."""
        return type(self), (self._path,)


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"


def _is_settled(status: os.stat_result) -> bool:
    return time.time_ns() - status.st_mtime_ns > _NS_TO_SETTLE
