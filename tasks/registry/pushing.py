"""What a version was made of goes to the DVC remote before it is registered, or it is not.

DVC itself ends well when it pushes data that are neither here nor there, so the remote is asked
afterwards; and asked first, so that nothing is pushed in a second where all is there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from dvc_data.hashfile.db import get_index
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.status import status
from dvc_data.hashfile.transfer import find_tree_by_obj_id

from lcm_lora.errors import UserError, reason, some
from tasks.running import process
from tasks.running.graph import entries
from tasks.running.run_cache import RunCache

NO_REMOTE = "no remote"
_ERROR = "ERROR: "


def push(root: Path) -> str:
    """Have all that dvc.lock names in the project's default remote; return the remote's name.

    Returns:
        The name; `no remote` where the project has none, since all is then here alone.

    Raises:
        UserError: The remote cannot be read or written, or something is neither here nor there.
    """
    name, missing = _missing(root)
    if name is None:
        return NO_REMOTE
    if missing:
        _send(root, name)
        if left := _missing(root)[1]:
            raise UserError(
                f"DVC remote {name}: {some(left)}: neither here nor there, so nobody could make "
                "the version again; `dvc repro` makes it anew"
            )
        _publish(root)
    return name


def _missing(root: Path) -> tuple[str | None, list[str]]:
    """Return the name of the default remote, and the outputs of which it lacks anything."""
    name = None
    try:
        with Repo(str(root)) as repo:
            name = repo.config["core"].get("remote")
            return (str(name), _lacking(repo)) if name else (None, [])
    except Exception as error:  # whatever the remote's file system raises
        where = f"DVC remote {name}" if name else f"{root}"
        raise _unusable(where, reason(error)) from None


def _lacking(repo: Repo) -> list[str]:
    remote, cache = repo.cloud.get_remote_odb(), repo.cache.local
    known = {out.def_path: _contents(out.hash_info, (cache, remote)) for out in _pushed(repo)}
    wanted = {part for parts in known.values() for part in parts}
    found = status(remote, wanted, index=get_index(remote), cache_odb=cache)
    missing = {part.value for part in found.missing}
    return [path for path, parts in known.items() if missing & {part.value for part in parts}]


def _pushed(repo: Repo) -> Iterable[Any]:
    """Yield the outputs that DVC keeps, and would push to the default remote."""
    for out in repo.index.outs:
        if out.hash_info and out.use_cache and out.can_push and out.remote is None:
            yield out


def _contents(whole: HashInfo, places: tuple[Any, ...]) -> set[HashInfo]:
    """Return the hash of an output and, of a folder, those of its files, where that is known."""
    folder = find_tree_by_obj_id(places, whole) if whole.isdir else None
    return {whole, *(part for _, _, part in folder or ())}


def _send(root: Path, name: str) -> None:
    ended = process.heard([sys.executable, "-m", "dvc", "--wait-for-lock", "push"], root)
    if ended.status:
        why = ended.why(_ERROR).removeprefix("unexpected error - ")
        raise _unusable(f"DVC remote {name}", why[:300])


def _publish(root: Path) -> None:
    """Have what DVC's run-cache knows of dvc.lock at the remote too, for whoever works there."""
    with RunCache(root) as cache:
        for entry in entries(root / "dvc.lock").values():
            if entry.get("deps"):  # without any, nobody looks for it
                cache.publish(entry)


def _unusable(where: str, what: str) -> UserError:
    return UserError(
        f"{where}: {what}; nothing is registered before its data are there: mend its place, "
        "credentials or space, and run again"
    )
