"""A folder of files on any file system that fsspec knows, local or remote, as checkpoints need it.

Nothing is written in one step here, since few remote file systems could: what must be whole is told
by a record with hashes, written last.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from lcm_lora.errors import UserError, reason
from lcm_lora.files import sha256

_PROBE = "can-be-written"


@dataclass(frozen=True, slots=True)
class Store:
    """Files below one place; names are relative to it, with slashes."""

    files: Any
    """The file system of fsspec."""
    root: str

    def at(self, name: str) -> Store:
        """Return the store of a folder within."""
        return Store(self.files, self.place(name))

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
            raise _unusable(self.root, error) from error

    def read(self, name: str) -> bytes:
        """Return what a file holds.

        Raises:
            FileNotFoundError: There is none.
        """
        with self._telling(self.place(name)):
            return bytes(self.files.cat_file(self.place(name)))

    def write(self, name: str, content: bytes) -> None:
        """Write a file; if that ends early, a part of it may be there."""
        with self._telling(self.place(name)):
            self.files.pipe_file(self.place(name), content)

    def put(self, name: str, write: Callable[[Path], None]) -> str:
        """Let `write` make a file at a local path, keep it, and return its SHA-256.

        So gigabytes need not be in memory; as for `write`, a part may be there if it ends early.
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
            with self._telling(self.place(name)):
                if not self._is_local:
                    self.files.get_file(self.place(name), str(path))
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
        """Remove a folder and all in it, or nothing if there is none."""
        with self._telling(self.place(name)), contextlib.suppress(FileNotFoundError):
            self.files.rm(self.place(name), recursive=True)

    def move(self, name: str, to: str) -> None:
        """Rename a folder, over any that has the name already."""
        self.remove(to)
        with self._telling(self.place(name)):
            self.files.mv(self.place(name), self.place(to), recursive=True)

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
            raise _unusable(place, error) from error


def open_store(url: str | None, default: Path) -> Store:
    """Open the store at `url`, or in the local folder `default` if there is none.

    Raises:
        UserError: There is no such file system.
    """
    url = str(default.absolute()) if url is None else url
    try:
        files, root = url_to_fs(url, **({"auto_mkdir": True} if _is_local(url) else {}))
    except Exception as error:
        raise _unusable(url, error) from error
    return Store(files, root.rstrip("/"))


def _is_local(url: str) -> bool:
    return "://" not in url or url.startswith(("file://", "local://"))


def _unusable(place: str, error: Exception) -> UserError:
    return UserError(
        f"distill.checkpoints {place}: cannot be used ({reason(error)}); mend it, or name another "
        "place"
    )
