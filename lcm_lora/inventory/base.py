"""Which base there is now, and whether it is still the one that the first look found."""

from __future__ import annotations

from pathlib import Path

from lcm_lora.errors import UserError
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.hub import cached_folder, find_on_hub
from lcm_lora.model_files import ModelInventory, look_at_model
from lcm_lora.params.base import Base
from lcm_lora.records import read_record
from lcm_lora.shapes import places

_PICKLES = {".ckpt", ".pt", ".pth", ".bin"}
_MEND = "run `lcm-lora inventory`"


def look_at_base(base: Base, hashes: Hashes) -> ModelInventory:
    """Return what the base is made of; a hub id is resolved to its commit and fetched once.

    Raises:
        UserError: There is no such base, or it is a pickle.
    """
    if base.model == "shapes":
        return look_at_model("shapes", places.BASE, hashes)
    path = Path(base.model)
    if path.suffix in _PICKLES:
        raise UserError(f"base.model {path}: pickled weights are refused; convert to safetensors")
    if path.exists() or path.suffix == ".safetensors" or path.is_absolute():
        return look_at_model(base.model, path, hashes)
    found = find_on_hub(base.model, base.revision)
    return look_at_model(base.model, found.folder, hashes, found.commit)


def read_base(path: Path, hashes: Hashes) -> ModelInventory:
    """Return the base that the first look wrote to `path`, after checking that it still stands.

    Raises:
        UserError: There is no such file, or the base changed since.
    """
    known = read_record(path, ModelInventory, _MEND)
    if known.commit is None:
        now = look_at_base(Base(model=known.model, revision=None), hashes)
        if now.sha256 != known.sha256:
            raise UserError(f"base.model {known.model}: changed since the first look; {_MEND}")
    return known


def folder_of(found: ModelInventory) -> Path | None:
    """Return the folder of a base's files; None for a single file."""
    if found.model == "shapes":
        return places.BASE
    if found.commit is not None:
        return cached_folder(found.model, found.commit)
    path = Path(found.model)
    return path if path.is_dir() else None
