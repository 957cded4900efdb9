"""Which files a model is made of, and their content."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from lcm_lora.errors import UserError
from lcm_lora.hashes import Hashes
from lcm_lora.records import Record

_READ = (".json", ".safetensors", ".txt", ".model", ".pt")
"""Endings of the files that loading a model may read; the rest, such as a card, changes nothing."""


class ModelInventory(Record):
    """The files of a model, and one SHA-256 over their names and contents."""

    model: str
    """As the parameters name it."""
    commit: str | None
    """Of a hub id."""
    files: dict[str, str]
    sha256: str

    def part_sha256(self, folder: str) -> str:
        """Return a hash over the files of one folder and what stands for its configuration.

        Over all files, where there is no such folder.
        """
        own, told = f"{folder}/", f"config/{folder}/"
        if not any(name.startswith(own) for name in self.files):
            return self.sha256
        return identity({n: sha for n, sha in self.files.items() if n.startswith((own, told))})


def look_at_model(
    name: str, path: Path, hashes: Hashes, commit: str | None = None
) -> ModelInventory:
    """Return the files of a model, a file or a folder.

    Raises:
        UserError: There is none.
    """
    if not path.exists():
        raise UserError(f"{name}: no such file or folder; mend its place in params.yaml")
    sums = files_of_model(path, hashes)
    return ModelInventory(model=name, commit=commit, files=sums, sha256=identity(sums))


def files_of_model(path: Path, hashes: Hashes) -> dict[str, str]:
    """Return the hashes of the files that loading a file or a folder may read, by name.

    Raises:
        UserError: There are none.
    """
    if path.is_file():
        return {path.name: hashes.sha256(path)}
    found = {
        file.relative_to(path).as_posix(): hashes.sha256(file)
        for file in sorted(path.rglob("*"))
        if file.suffix in _READ and file.is_file()
    }
    if not found:
        raise UserError(f"{path}: holds no files of a model ({', '.join(_READ)}); name another")
    return found


def identity(sums: dict[str, str]) -> str:
    """Return one SHA-256 over names and hashes of files."""
    return hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()
