"""What a folder held at another time: its files by DVC's hash, from the cache or the remote."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.config import NoRemoteError
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree

from lcm_lora.errors import UserError, reason


@dataclass(frozen=True)
class Former:
    """The files of a folder at another time."""

    files: Mapping[str, str]
    """DVC's hash of each, by its name in the folder."""
    stores: tuple[Any, ...]
    """Where their bytes may be, the nearest first."""

    def fetch(self, name: str, to: Path) -> None:
        """Copy a file to the path `to`.

        Raises:
            UserError: Nobody has it any more, or the remote cannot be read.
        """
        oid = self.files[name]
        for store in self.stores:
            with _reading(name):
                if store.exists(oid):
                    store.fs.get_file(store.oid_to_path(oid), str(to))
                    return
        raise _gone(name, oid)


@contextlib.contextmanager
def former(root: Path, folder: Path, md5: str) -> Iterator[Former]:
    """Yield what a folder of a project held when its hash was `md5`.

    Raises:
        UserError: Neither DVC's cache nor its default remote knows.
    """
    with Repo(str(root)) as repo:
        stores = (repo.cache.local, *_remote(repo))
        yield Former(_files(stores, folder, md5), stores)


def _files(stores: tuple[Any, ...], folder: Path, md5: str) -> dict[str, str]:
    for store in stores:
        with _reading(str(folder)):
            if store.exists(md5):
                tree = Tree.load(store, HashInfo("md5", md5))
                return {"/".join(key): str(info.value) for key, (_, info) in tree.iteritems()}
    raise _gone(str(folder), md5)


def _remote(repo: Repo) -> tuple[Any, ...]:
    try:
        return (repo.cloud.get_remote_odb(None, "drift"),)
    except NoRemoteError:
        return ()


@contextlib.contextmanager
def _reading(what: str) -> Iterator[None]:
    try:
        yield
    except (UserError, DvcException):
        raise
    except Exception as error:  # whatever the file system of a remote raises
        raise UserError(
            f"{what}: the remote cannot be read ({reason(error)}); mend its access in "
            ".dvc/config.local or the environment"
        ) from None


def _gone(what: str, oid: str) -> UserError:
    return UserError(
        f"{what} {oid}: neither in DVC's cache nor in its default remote; "
        "it was never pushed, or garbage was collected"
    )
