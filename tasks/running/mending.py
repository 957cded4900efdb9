"""Set right what DVC leaves when it is killed over its own files, which it writes in place.

What it has made is in its cache and its run-cache, whole; so a list that is cut short may go, and
the next run restores what that named.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from dvc.lock import LockError, make_lock
from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK, SCHEMA
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from ruamel.yaml import YAML, YAMLError
from voluptuous import Invalid

LOCK = Path("dvc.lock")
_DAMAGED = Path("dvc.lock.damaged")


def mend(root: Path) -> Iterator[str]:
    """Put damaged files of DVC out of its way, and yield a line about each.

    Args:
        root: The project's folder, in which no other flow runs; a DVC command may.
    """
    if _forget_users(root / ".dvc" / "tmp"):
        yield f".dvc/tmp/{RWLOCK_FILE}: cut short when DVC was killed; removed"
    if not _is_whole(root / LOCK):
        (root / LOCK).replace(root / _DAMAGED)
        yield f"{LOCK}: cut short when DVC was killed; moved to {_DAMAGED}, what it named is known"


def _forget_users(folder: Path) -> bool:
    """Remove the note of who uses what if it cannot be read; tell whether it was so."""
    path = folder / RWLOCK_FILE
    if not path.exists():
        return False
    # Under the lock of DVC's own writers: else it might be one who is just writing.
    with contextlib.suppress(LockError), make_lock(str(folder / RWLOCK_LOCK), tmp_dir=str(folder)):
        try:
            SCHEMA(json.loads(path.read_text()))
        except (ValueError, Invalid):
            path.unlink()
            return True
    return False


def _is_whole(lock: Path) -> bool:
    """Tell whether a dvc.lock, if there is one, is as DVC's writer leaves it at its end."""
    if not lock.exists():
        return True
    try:
        text = lock.read_text()
        stages = COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(text))["stages"].values()
    except (YAMLError, Invalid, ValueError, LookupError):
        return False
    files = [file for s in stages for file in (*s.get("deps", []), *s.get("outs", []))]
    return text.endswith("\n") and all(file.get(file.get("hash")) for file in files)
