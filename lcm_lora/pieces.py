"""Keep what was made of the same input: pieces of work, named by all that decides their content.

A piece is a folder of files that is made in one step, so a killed run leaves whole pieces and the
next goes on. Outputs are put together from links to them, each file named by its own content: what
is made anew to the same bytes is the same output. Pieces lie outside DVC's outputs, which DVC
removes before a stage runs; DVC's own way to keep an output (`persist`) would shut the stage out of
its run cache, and copies every linked byte before each run.

Stages that run side by side may share a folder of pieces: each claims what it needs before it makes
any, and holds the lock of a piece while it makes it. Machines share pieces through a store: what a
run makes or has is put there, and what another made is fetched. There each file is named by its
content, and the piece's sums are written last: half a piece is none, and of two made at once one is
whole. Nothing is removed there but what was kept on the way to a piece.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import StringConstraints, model_validator

from lcm_lora import files
from lcm_lora.errors import UserError
from lcm_lora.hashes import Hashes
from lcm_lora.locks import is_held, locked, remove_unless_held
from lcm_lora.records import Record, parse_record, read_record, write_record

if TYPE_CHECKING:
    from lcm_lora.store import Store

SUMS = "sums.json"

_USERS, _LOCKS = "users", "locks"
_CLAIMS = "claims"
"""The lock of all claims."""

_RECORD = ".json"
"""Ends the name of a piece's sums in a shared store, beside its folder."""

_AT_A_TIME = 8
"""Pieces that are fetched together; a connection alone seldom fills the network."""

_LENGTH = 24

_Name = Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*$")]
"""Of a file in a piece: none that leads out of it, since machines take them from each other."""
_Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


class Sums(Record):
    """The sums of a piece: the SHA-256 of each of its files, and of that list with their names."""

    files: dict[_Name, _Sha256]
    files_sha256: _Sha256

    @classmethod
    def of(cls, files: dict[str, str]) -> Self:
        """Return the sums of files of which the SHA-256 are known."""
        return cls(files=files, files_sha256=_sha256_of(files))

    @model_validator(mode="after")
    def _is_its_own(self) -> Self:
        if self.files_sha256 != _sha256_of(self.files):
            raise ValueError("other files than when it was written")
        return self


class Claim(Record):
    """The pieces that a user of a folder needs, and those that it needed before."""

    now: tuple[str, ...] = ()
    before: tuple[str, ...] = ()


class Ledger(Record):
    """The pieces in an output: the sums of each by its name, with which another machine goes on."""

    pieces: dict[str, dict[str, str]]


def key_of(**decides: Any) -> str:
    """Return the name of a piece: a short hash of everything that decides its content."""
    return _sha256_of(decides)[:_LENGTH]


def _sha256_of(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


class Pieces:
    """The pieces of one stage: in a folder here and, where there is one, in a shared store."""

    def __init__(self, folder: Path, hashes: Hashes, shared: Store | None = None) -> None:
        """Open a folder of pieces, which need not be there.

        Args:
            folder: Of this machine.
            hashes: Spares reading what has not changed since it was checked.
            shared: The same pieces, of all machines.
        """
        self._folder = folder
        self._hashes = hashes
        self._shared = shared

    def shared(self, folder: str) -> Store | None:
        """Return a folder beside the pieces in the shared store, for what else is known of them."""
        return self._shared.at(folder) if self._shared else None

    def fetch(self, keys: Iterable[str]) -> None:
        """Fetch those of some pieces that only other machines have, several at a time.

        Raises:
            UserError: The shared store cannot be used.
        """
        if self._shared is not None:
            missing = [key for key in keys if not (self._folder / key).is_dir()]
            with ThreadPoolExecutor(_AT_A_TIME) as pool:
                list(pool.map(self._fetched, missing))

    def find(self, key: str) -> Path | None:
        """Return the folder of a piece; None if there is none, or one that was damaged.

        One that only another machine has made is fetched; one that only this one has is shared.

        Raises:
            UserError: The shared store cannot be used.
        """
        if not self._is_whole(key):
            return self._fetched(key)
        if key not in self._known:
            self._share(key)
        return self._folder / key

    def is_shared(self, key: str) -> bool:
        """Tell whether other machines find a piece; one that only this one has is shared first.

        Raises:
            UserError: The shared store cannot be used.
        """
        if key not in self._known and self._is_whole(key):
            self._share(key)
        return key in self._known

    def _is_whole(self, key: str) -> bool:
        folder = self._folder / key
        if not folder.is_dir():
            return False
        try:
            sums = read_record(folder / SUMS, Sums, "it is made anew")
            return all(self._hashes.sha256(folder / n) == s for n, s in sums.files.items())
        except (OSError, UserError):
            return False

    @cached_property
    def _known(self) -> set[str]:
        """The pieces that the shared store was seen to have."""
        names = self._shared.names() if self._shared else []
        return {Path(name).stem for name in names if name.endswith(_RECORD)}

    def _share(self, key: str) -> None:
        """Put a piece into the shared store, over any that is there."""
        if self._shared is None:
            return
        sums = read_record(self._folder / key / SUMS, Sums, "remove it")
        for name, digest in sums.files.items():
            there = f"{key}/{content_name(digest, name)}"
            self._shared.send(self._folder / key / name, there)
        self._shared.write(f"{key}{_RECORD}", sums.model_dump_json().encode())
        self._known.add(key)

    def _fetched(self, key: str) -> Path | None:
        """Return the folder of a piece that was in the shared store; None if none is whole there.

        Every file is checked before the piece counts.
        """
        if self._shared is None:
            return None
        try:
            content = self._shared.read(f"{key}{_RECORD}")
        except FileNotFoundError:
            return None
        with locked(
            self._folder / _LOCKS / f"{key}.fetch", "another process that fetches the same"
        ):
            if not self._is_whole(key):
                try:
                    self._fetch(key, _sums_of(content, self._shared.place(key)), self._shared)
                except _DamagedError as error:
                    sys.stderr.write(f"{error}: damaged; it is made anew\n")
                    return None
        return self._folder / key

    def _fetch(self, key: str, sums: Sums, shared: Store) -> None:
        with files.new_folder(self._folder / key) as made:
            for name, digest in sums.files.items():
                there = f"{key}/{content_name(digest, name)}"
                with contextlib.suppress(FileNotFoundError):
                    shared.fetch(there, made / name)
                    if files.sha256(made / name) == digest:
                        continue
                raise _DamagedError(shared.place(there))
            write_record(made / SUMS, sums)

    @contextlib.contextmanager
    def make(self, key: str) -> Iterator[Path]:
        """Yield an empty folder that becomes the piece `key` if the block ends well."""
        with files.new_folder(self._folder / key) as made:
            yield made
            sums = {path.name: files.sha256(path) for path in sorted(made.iterdir())}
            write_record(made / SUMS, Sums.of(sums))
        self._share(key)

    @contextlib.contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Let nobody else make the piece `key` while the block runs; wait while another does."""
        with locked(self._folder / _LOCKS / key, "another stage that makes the same"):
            yield

    def clear(self, key: str) -> None:
        """Remove what was kept on the way to a piece that is whole now; its lock must be held."""
        for pattern in (f"{key}.*", f".{key}.*"):
            for entry in self._folder.glob(pattern):
                shutil.rmtree(entry, ignore_errors=True)
        if self._shared is not None:
            self._shared.remove(_on_the_way_to(key))

    def on_the_way_to(self, key: str) -> Pieces:
        """Return pieces of which the piece `key` is made, kept until it is whole."""
        name = _on_the_way_to(key)
        shared = self._shared.at(name) if self._shared else None
        return Pieces(self._folder / name, self._hashes, shared)

    def path(self, key: str) -> Path:
        """Return the folder of the piece `key`."""
        return self._folder / key

    def sums(self, key: str) -> dict[str, str]:
        """Return the SHA-256 of each file of a piece, by its name in the piece."""
        return read_record(self._folder / key / SUMS, Sums, "remove it").files

    def put(self, keys: Iterable[str], out: Path) -> Ledger:
        """Link the files of pieces into the folder `out`, each named by its content."""
        ledger = Ledger(pieces={key: self.sums(key) for key in keys})
        for key, sums in ledger.pieces.items():
            for name, digest in sums.items():
                target = out / content_name(digest, name)
                if not target.exists():
                    files.link(self._folder / key / name, target)
        return ledger

    def adopt(self, ledger: Ledger, out: Path) -> None:
        """Take the pieces that an output holds, as one that was pulled does; it costs no space."""
        for key, sums in ledger.pieces.items():
            sources = {name: out / content_name(digest, name) for name, digest in sums.items()}
            known = (self._folder / key).exists()
            if known or not all(source.is_file() for source in sources.values()):
                continue
            with files.new_folder(self._folder / key) as made:
                for name, source in sources.items():
                    files.link(source, made / name)
                write_record(made / SUMS, Sums.of(sums))

    def claim(self, user: str, keys: Iterable[str]) -> None:
        """Note that `user` needs these pieces, and remove those that nobody has needed lately.

        Of each user, what it needed before stays too: the adapter of yesterday is the champion of
        today. One that needs nothing is forgotten. Call it before making any, so that no other
        user takes them for leftovers.
        """
        path = self._folder / _USERS / f"{user}.json"
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
        claims = (self._folder / _USERS).glob("*.json")
        if others := [path for path in claims if path.stem not in known]:
            with self._claiming():
                for path in others:
                    path.unlink(missing_ok=True)
                self._sweep()

    @contextlib.contextmanager
    def _claiming(self) -> Iterator[None]:
        with locked(self._folder / _LOCKS / _CLAIMS, "another stage that clears up"):
            yield

    def _sweep(self) -> None:
        """Remove what no claim names, and the locks of it, but nothing that is under way."""
        claims = [_claim_of(file) for file in (self._folder / _USERS).glob("*.json")]
        kept = {key for claim in claims for key in (*claim.now, *claim.before)}
        locks = self._folder / _LOCKS
        for entry in self._folder.iterdir():
            key = entry.name.removeprefix(".").partition(".")[0]
            is_own = key in {_USERS, _LOCKS}
            if not is_own and key not in kept and not is_held(locks / key):
                shutil.rmtree(entry, ignore_errors=True)
        for lock in locks.iterdir():
            if lock.name not in kept:
                remove_unless_held(lock)

    def keep_only(self, keys: Iterable[str]) -> None:
        """Remove every other piece, and what a killed run left; nobody else may be at work here."""
        kept = set(keys)
        if self._folder.is_dir():
            for path in self._folder.iterdir():
                if path.name not in kept:
                    shutil.rmtree(path)


class _DamagedError(Exception):
    """A piece in the shared store that is not as its sums say; the message is the place."""


def _sums_of(content: bytes, place: str) -> Sums:
    """Return the sums that a shared store has of a piece."""
    try:
        return parse_record(content, Sums, place, "it is made anew")
    except UserError:
        raise _DamagedError(place) from None


def _on_the_way_to(key: str) -> str:
    return f"{key}.parts"


def _claim_of(path: Path) -> Claim:
    try:
        return read_record(path, Claim, "it is made anew")
    except UserError:
        return Claim()


def content_name(sha256: str, name: str) -> str:
    """Return the name of a file in an output: its content's hash, and its own suffix."""
    return f"{sha256[:_LENGTH]}{Path(name).suffix}"
