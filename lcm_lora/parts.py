"""Where in earlier pieces the share of one picture is, so that a changed piece makes only the rest.

A new picture between others changes the piece that it falls into; all else in there is copied from
where it was made before, by what decides its content. Machines that share pieces tell each other
what is in them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lcm_lora.errors import UserError
from lcm_lora.memory import Memory
from lcm_lora.pieces import Pieces, key_of
from lcm_lora.records import Record, parse_record


class Part(NamedTuple):
    """A part: the folder of the piece that holds it, and its place there."""

    piece: Path
    place: Any


class Told(Record):
    """What one machine tells others of a piece: where its parts are, by what decides them."""

    piece: str
    places: dict[str, Any]


class Parts(Memory):
    """The parts of a stage's pieces, by the content that they were made of."""

    def __init__(self, path: Path, pieces: Pieces, **how: Any) -> None:
        """Open the file `path`; only what was made the same way, `how`, is found."""
        super().__init__(path, "parts (name text primary key, piece text, place text)")
        self._pieces, self._how = pieces, how
        self._salt = key_of(**how)
        self._whole: dict[str, Path | None] = {}
        self._others = pieces.shared(f"parts/{self._salt}")
        self._has_asked = False

    def find(self, sha256: str) -> Part | None:
        """Return where the part of this content is, if its piece is still there and whole.

        Raises:
            UserError: The shared store cannot be used.
        """
        found = self._row(sha256)
        if not found and not self._has_asked:
            self._has_asked = True
            self._ask()
            found = self._row(sha256)
        if not found:
            return None
        piece = str(found[0])
        if piece not in self._whole:
            self._whole[piece] = self._pieces.find(piece)
        folder = self._whole[piece]
        return Part(folder, json.loads(found[1])) if folder else None

    def _row(self, sha256: str) -> Any:
        with contextlib.suppress(sqlite3.Error):
            return self._database.execute(
                "select piece, place from parts where name = ?", (self._name(sha256),)
            ).fetchone()
        return None

    def _ask(self) -> None:
        """Note what other machines tell of pieces that are not known here."""
        if self._others is None:
            return
        known: set[str] = set()
        with contextlib.suppress(sqlite3.Error):
            rows = self._database.execute("select distinct piece from parts")
            known |= {piece for (piece,) in rows}
        names = [name for name in self._others.names() if name.partition("-")[0] not in known]
        for name, content in self._others.read_all(names):
            with contextlib.suppress(UserError):
                told = parse_record(content, Told, name, "it is left out")
                if name == _told_name(told.piece, content):  # else it is damaged
                    self._note(told.piece, told.places)

    def keep(self, piece: str, places: Mapping[str, Any]) -> None:
        """Note where the parts of a piece are, by the hash of what they were made of.

        Raises:
            UserError: The shared store cannot be used.
        """
        self._note(piece, places)
        if self._others is not None:
            content = Told(piece=piece, places=dict(places)).model_dump_json().encode()
            self._others.write(_told_name(piece, content), content)

    def _note(self, piece: str, places: Mapping[str, Any]) -> None:
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


def _told_name(piece: str, content: bytes) -> str:
    return f"{piece}-{hashlib.sha256(content).hexdigest()[:16]}.json"


def _opened(path: Path, pieces: Pieces, how: dict[str, Any]) -> Parts:
    return Parts(path, pieces, **how)
