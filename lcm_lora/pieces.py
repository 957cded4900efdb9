"""Keep what was made of the same input: pieces of work, named by all that decides their content.

A piece is a folder of files that is made in one step, so a killed run leaves whole pieces and the
next goes on. Outputs are put together from links to them, each file named by its own content: what
is made anew to the same bytes is the same output. The store lies outside DVC's outputs, which DVC
removes before a stage runs; DVC's own way to keep an output (`persist`) would shut the stage out of
its run cache, and copies every linked byte before each run.

Stages that run side by side may share a store: each claims what it needs before it makes any, and
holds the lock of a piece while it makes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lcm_lora import files
from lcm_lora.errors import UserError
from lcm_lora.hashes import Hashes
from lcm_lora.locks import is_held, locked, remove_unless_held
from lcm_lora.records import Record, read_record, write_record

SUMS = "sums.json"

_USERS, _LOCKS = "users", "locks"
_CLAIMS = "claims"
"""The lock of all claims."""

_LENGTH = 24


class Sums(Record):
    """The sums of a piece: the SHA-256 of each of its files."""

    files: dict[str, str]


class Claim(Record):
    """The pieces that a user of a store needs, and those that it needed before."""

    now: tuple[str, ...] = ()
    before: tuple[str, ...] = ()


class Ledger(Record):
    """The pieces in an output: the sums of each by its name, with which another machine goes on."""

    pieces: dict[str, dict[str, str]]


def key_of(**decides: Any) -> str:
    """Return the name of a piece: a short hash of everything that decides its content."""
    text = json.dumps(decides, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]


class Pieces:
    """The pieces of one stage, in the folder `store`."""

    def __init__(self, store: Path, hashes: Hashes) -> None:
        """Open a store; `hashes` spares reading what has not changed since it was checked."""
        self._store = store
        self._hashes = hashes

    def find(self, key: str) -> Path | None:
        """Return the folder of a piece; None if there is none, or one that was damaged."""
        folder = self._store / key
        if not folder.is_dir():
            return None
        try:
            sums = read_record(folder / SUMS, Sums, "it is made anew")
            whole = all(self._hashes.sha256(folder / n) == s for n, s in sums.files.items())
        except (OSError, UserError):
            whole = False
        return folder if whole else None

    @contextlib.contextmanager
    def make(self, key: str) -> Iterator[Path]:
        """Yield an empty folder that becomes the piece `key` if the block ends well."""
        with files.new_folder(self._store / key) as made:
            yield made
            sums = {path.name: files.sha256(path) for path in sorted(made.iterdir())}
            write_record(made / SUMS, Sums(files=sums))

    @contextlib.contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Let nobody else make the piece `key` while the block runs; wait while another does."""
        with locked(self._store / _LOCKS / key, "another stage that makes the same"):
            yield

    def clear(self, key: str) -> None:
        """Remove what was kept on the way to a piece that is whole now; its lock must be held."""
        for pattern in (f"{key}.*", f".{key}.*"):
            for entry in self._store.glob(pattern):
                shutil.rmtree(entry, ignore_errors=True)

    def path(self, key: str) -> Path:
        """Return the folder of the piece `key`."""
        return self._store / key

    def sums(self, key: str) -> dict[str, str]:
        """Return the SHA-256 of each file of a piece, by its name in the piece."""
        return read_record(self._store / key / SUMS, Sums, "remove it").files

    def put(self, keys: Iterable[str], out: Path) -> Ledger:
        """Link the files of pieces into the folder `out`, each named by its content."""
        ledger = Ledger(pieces={key: self.sums(key) for key in keys})
        for key, sums in ledger.pieces.items():
            for name, digest in sums.items():
                target = out / content_name(digest, name)
                if not target.exists():
                    files.link(self._store / key / name, target)
        return ledger

    def adopt(self, ledger: Ledger, out: Path) -> None:
        """Take the pieces that an output holds, as one that was pulled does; it costs no space."""
        for key, sums in ledger.pieces.items():
            sources = {name: out / content_name(digest, name) for name, digest in sums.items()}
            known = (self._store / key).exists()
            if known or not all(source.is_file() for source in sources.values()):
                continue
            with files.new_folder(self._store / key) as made:
                for name, source in sources.items():
                    files.link(source, made / name)
                write_record(made / SUMS, Sums(files=sums))

    def claim(self, user: str, keys: Iterable[str]) -> None:
        """Note that `user` needs these pieces, and remove those that nobody has needed lately.

        Of each user, what it needed before stays too: the adapter of yesterday is the champion of
        today. One that needs nothing is forgotten. Call it before making any, so that no other
        user takes them for leftovers.
        """
        path = self._store / _USERS / f"{user}.json"
        now = tuple(sorted(keys))
        with self._claiming():
            claim = _claim_of(path)
            if not now:
                path.unlink(missing_ok=True)
            elif now != claim.now:
                write_record(path, Claim(now=now, before=claim.now))
            self._sweep()

    def forget_all_but(self, users: Iterable[str]) -> None:
        """Forget what any other user needed, and remove what nobody else needs."""
        known = set(users)
        claims = (self._store / _USERS).glob("*.json")
        if others := [path for path in claims if path.stem not in known]:
            with self._claiming():
                for path in others:
                    path.unlink(missing_ok=True)
                self._sweep()

    @contextlib.contextmanager
    def _claiming(self) -> Iterator[None]:
        with locked(self._store / _LOCKS / _CLAIMS, "another stage that clears up"):
            yield

    def _sweep(self) -> None:
        """Remove what no claim names, and the locks of it, but nothing that is under way."""
        claims = [_claim_of(file) for file in (self._store / _USERS).glob("*.json")]
        kept = {key for claim in claims for key in (*claim.now, *claim.before)}
        locks = self._store / _LOCKS
        for entry in self._store.iterdir():
            key = entry.name.removeprefix(".").partition(".")[0]
            is_own = key in {_USERS, _LOCKS}
            if not is_own and key not in kept and not is_held(locks / key):
                shutil.rmtree(entry, ignore_errors=True)
        for lock in locks.iterdir():
            if lock.name not in kept:
                remove_unless_held(lock)

    def keep_only(self, keys: Iterable[str]) -> None:
        """Remove every other piece, and what a killed run left half made."""
        kept = set(keys)
        if self._store.is_dir():
            for path in self._store.iterdir():
                if path.name not in kept:
                    shutil.rmtree(path)


def _claim_of(path: Path) -> Claim:
    try:
        return read_record(path, Claim, "it is made anew")
    except UserError:
        return Claim()


def content_name(sha256: str, name: str) -> str:
    """Return the name of a file in an output: its content's hash, and its own suffix."""
    return f"{sha256[:_LENGTH]}{Path(name).suffix}"
