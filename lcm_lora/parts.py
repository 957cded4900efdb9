"""Where in earlier pieces the share of one picture is, so that a changed piece makes only the rest.

A new picture between others changes the piece that it falls into; all else in there is copied from
where it was made before, by what decides its content.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lcm_lora.memory import Memory
from lcm_lora.pieces import Pieces, key_of


class Part(NamedTuple):
    """A part: the folder of the piece that holds it, and its place there."""

    piece: Path
    place: Any


class Parts(Memory):
    """The parts of a stage's pieces, by the content that they were made of."""

    def __init__(self, path: Path, pieces: Pieces, **how: Any) -> None:
        """Open the file `path`; only what was made the same way, `how`, is found."""
        super().__init__(path, "parts (name text primary key, piece text, place text)")
        self._pieces, self._how = pieces, how
        self._salt = key_of(**how)
        self._whole: dict[str, Path | None] = {}

    def find(self, sha256: str) -> Part | None:
        """Return where the part of this content is, if its piece is still there and whole."""
        found = None
        with contextlib.suppress(sqlite3.Error):
            found = self._database.execute(
                "select piece, place from parts where name = ?", (self._name(sha256),)
            ).fetchone()
        if not found:
            return None
        piece = str(found[0])
        if piece not in self._whole:
            self._whole[piece] = self._pieces.find(piece)
        folder = self._whole[piece]
        return Part(folder, json.loads(found[1])) if folder else None

    def keep(self, piece: str, places: Mapping[str, Any]) -> None:
        """Note where the parts of a piece are, by the hash of what they were made of."""
        rows = [(self._name(sha256), piece, json.dumps(p)) for sha256, p in places.items()]
        with contextlib.suppress(sqlite3.Error):
            self._database.execute("begin")
            self._database.executemany("insert or replace into parts values (?, ?, ?)", rows)
            self._database.execute("commit")

    def keep_only(self, pieces: Iterable[str]) -> None:
        """Forget the parts of all other pieces."""
        kept = json.dumps(sorted(pieces))
        with contextlib.suppress(sqlite3.Error):
            self._database.execute(
                "delete from parts where piece not in (select value from json_each(?))", (kept,)
            )

    def _name(self, sha256: str) -> str:
        return f"{self._salt} {sha256}"

    def __reduce__(self) -> tuple[Any, ...]:
        """Let another process open the same file."""
        return _opened, (self._path, self._pieces, self._how)


def _opened(path: Path, pieces: Pieces, how: dict[str, Any]) -> Parts:
    return Parts(path, pieces, **how)
