"""Files below one place on any file system that fsspec knows, such as machines share.

Few remote file systems write several files in one step: what must be whole is told by a record with
hashes, written last.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from lcm_lora.errors import UserError, reason, without_passwords
from lcm_lora.files import copy, sha256, write_bytes

ENVIRONMENT = "LCM_LORA_STORE"
"""Names the store that machines share: where, not what, so it is no parameter and in no hash."""

_PROBE = "can-be-written"
_AT_A_TIME = 64
"""Files that are read together."""


@dataclass(frozen=True, slots=True)
class Store:
    """Files below one place; names are relative to it, with slashes."""

    files: Any
    """The file system of fsspec."""
    root: str
    named_by: str
    """What a user changes to name another place."""

    def at(self, name: str) -> Store:
        """Return the store of a folder within."""
        return replace(self, root=self.place(name))

    def place(self, name: str) -> str:
        """Return where a name is, for fsspec and for people."""
        return f"{self.root}/{name}"

    def names(self) -> list[str]:
        """Return the names of the files and folders right below, sorted."""
        with self._telling(self.root), contextlib.suppress(FileNotFoundError):
            self.files.invalidate_cache()  # other processes write here too
            found = self.files.ls(self.root, detail=False)
            return sorted(path.rstrip("/").rpartition("/")[2] for path in found)
        return []

    def check(self) -> None:
        """Check that files can be written.

        Raises:
            UserError: They cannot.
        """
        try:
            self.write(_PROBE, b"")
            self.remove(_PROBE)
        except OSError as error:
            raise _unusable(self.named_by, self.root, error) from error

    def read(self, name: str) -> bytes:
        """Return what a file holds.

        Raises:
            FileNotFoundError: There is none.
        """
        with self._telling(self.place(name)):
            return bytes(self.files.cat_file(self.place(name)))

    def read_all(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yield files by their names, in no order; what cannot be read is left out.

        Several are read at a time, where the file system can.
        """
        for first in range(0, len(names), _AT_A_TIME):
            places = {self.place(name): name for name in names[first : first + _AT_A_TIME]}
            with self._telling(self.root):
                found = self.files.cat(list(places), on_error="omit")
            yield from ((places[place], content) for place, content in found.items())

    def write(self, name: str, content: bytes) -> None:
        """Write a file; on a remote file system a part of it may be there if that ends early."""
        with self._telling(self.place(name)):
            if self._is_local:
                write_bytes(Path(self.place(name)), content)
            else:
                self.files.pipe_file(self.place(name), content)

    def send(self, path: Path, name: str) -> None:
        """Copy a local file here; it is as whole as what `write` writes."""
        with self._telling(self.place(name)):
            if self._is_local:
                copy(path, Path(self.place(name)))
            else:
                self.files.put_file(str(path), self.place(name))

    def fetch(self, name: str, path: Path) -> None:
        """Copy a file from here to a local path.

        Raises:
            FileNotFoundError: There is none.
        """
        with self._telling(self.place(name)):
            self.files.get_file(self.place(name), str(path))

    def put(self, name: str, write: Callable[[Path], None]) -> str:
        """Let `write` make a file at a local path, keep it, and return its SHA-256.

        So gigabytes need not be in memory; a part may be there if it ends early.
        """
        with self._telling(self.place(name)), self._locally(name) as path:
            write(path)
            digest = sha256(path)
            if not self._is_local:
                self.files.put_file(str(path), self.place(name))
            return digest

    @contextlib.contextmanager
    def fetched(self, name: str) -> Iterator[Path]:
        """Yield a local path where a file can be read in the block.

        Raises:
            FileNotFoundError: There is none.
        """
        with self._locally(name) as path:
            if not self._is_local:
                self.fetch(name, path)
            elif not path.is_file():
                raise FileNotFoundError(path)
            yield path

    @property
    def _is_local(self) -> bool:
        return isinstance(self.files, LocalFileSystem)

    @contextlib.contextmanager
    def _locally(self, name: str) -> Iterator[Path]:
        if self._is_local:
            path = Path(self.place(name))
            path.parent.mkdir(parents=True, exist_ok=True)
            yield path
            return
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / "file"

    def remove(self, name: str) -> None:
        """Remove a file, or a folder and all in it; nothing if there is none."""
        with self._telling(self.place(name)), contextlib.suppress(FileNotFoundError):
            self.files.rm(self.place(name), recursive=True)

    def move(self, name: str, to: str) -> None:
        """Rename a file, or a folder and all in it, over any that has the name already."""
        self.remove(to)
        place, target = self.place(name), self.place(to)
        with self._telling(place):
            if self._is_local:
                self.files.mv(place, target)
                return
            self.files.invalidate_cache()
            # One by one: fsspec's own way would copy the folder too, which S3 does not have.
            for path in self.files.find(place):
                self.files.cp_file(path, target + path.partition(place)[2])
            self.files.rm(place, recursive=True)

    @contextlib.contextmanager
    def _telling(self, place: str) -> Iterator[None]:
        """Name the place in what a file system raises; there is no end to the kinds of errors."""
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                error.filename = error.filename or place
                raise
            raise _unusable(self.named_by, place, error) from error


def open_store(url: str, named_by: str) -> Store:
    """Open the store at a URL or local path; nothing is read or written yet.

    Args:
        url: As fsspec reads it, such as s3://bucket/folder.
        named_by: What a user changes to name another place.

    Raises:
        UserError: There is no such file system.
    """
    try:
        files, root = url_to_fs(url, **({"auto_mkdir": True} if _is_local(url) else {}))
    except Exception as error:
        raise _unusable(named_by, url, error) from error
    return Store(files, root.rstrip("/"), named_by)


def shared_store() -> Store | None:
    """Open the store that machines share; None where the environment names none.

    Raises:
        UserError: There is no such file system.
    """
    url = os.environ.get(ENVIRONMENT, "").strip()
    return open_store(url, ENVIRONMENT) if url else None


def _is_local(url: str) -> bool:
    return "://" not in url or url.startswith(("file://", "local://"))


def _unusable(named_by: str, place: str, error: Exception) -> UserError:
    return UserError(
        f"{named_by} {without_passwords(place)}: cannot be used ({reason(error)}); mend it, or "
        "name another place"
    )
