"""Locks between processes, freed by the system when their holder ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path


def hold(path: Path) -> int | None:
    """Return an open descriptor that holds a file or folder until it is closed.

    None where another holds it, nothing is there, or the file system knows no locks.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def remove_unless_held(path: Path) -> None:
    """Remove a file that is used as a lock, if nobody holds it."""
    handle = hold(path)
    if handle is not None:
        path.unlink(missing_ok=True)
        os.close(handle)


def is_held(path: Path) -> bool:
    """Tell whether a file or folder is there, and held."""
    handle = hold(path)
    if handle is not None:
        os.close(handle)
    return handle is None and path.exists()


@contextlib.contextmanager
def locked(path: Path, what: str, shared: bool = False) -> Iterator[None]:
    """Hold the file `path` while the block runs; wait, and say for what, while another does.

    Args:
        path: Made where it is missing.
        what: Is waited for.
        shared: Others who want it shared may hold it too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    is_ours = False
    while not is_ours:
        handle = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
        try:
            _wait(handle, what, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            is_ours = _is_at(handle, path)  # and was not removed while we waited
            if is_ours:
                yield
        finally:
            os.close(handle)


def _wait(handle: int, what: str, kind: int) -> None:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.stderr.write(f"waiting for {what}\n")
        sys.stderr.flush()
        fcntl.flock(handle, kind)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
