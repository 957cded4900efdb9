"""What a registered version carries: its adapter, and of its base what is small or has no name.

A base is named by reference and by the hash of each of its files; it is on the hub, in a folder or
in a file, and as a copy of gigabytes in every version it would only fill the disk.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from lcm_lora import layout
from lcm_lora.errors import UserError
from lcm_lora.families.found import BaseFiles, BaseInventory
from lcm_lora.files import link
from lcm_lora.inventory.base_files import where_is
from lcm_lora.recipe import RecipeBase
from lcm_lora.records import read_record

_LARGEST = 100_000_000
"""Bytes of a base that still travels inside."""


def carried(root: Path, base: RecipeBase, folder: Path) -> dict[str, Path]:
    """Return the files and folders that a version carries, by the name of its artifact.

    Args:
        root: The project's folder.
        base: What the adapter was distilled from.
        folder: Exists; holds what has to be put together.

    Returns:
        `adapter`; `base` and `vae` where they are small; `config` for a base in a single file.
    """
    artifacts = {"adapter": root / layout.ADAPTER}
    places = _places(root, base)
    if places is None:
        return artifacts
    if part := small(places.model, list(base.files_of("base")), folder / "base"):
        artifacts["base"] = part
    if places.vae and (part := small(places.vae, list(base.files_of("vae")), folder / "vae")):
        artifacts["vae"] = part
    if config := _config_folder(base, places, folder / "config"):
        artifacts["config"] = config
    return artifacts


def _places(root: Path, base: RecipeBase) -> BaseFiles | None:
    """Return where the base lies; None where it is not here, or no longer the same."""
    with contextlib.suppress(UserError):
        found = read_record(root / layout.INVENTORY / "base.json", BaseInventory, "")
        if found.sha256 == base.sha256:
            return where_is(found)
    return None


def small(place: Path, files: list[str], folder: Path) -> Path | None:
    """Return the named files of a model alone; None if they are many bytes, or not all here.

    Args:
        place: Where it lies: a folder, or a single file, which is returned itself.
        files: Their names in the folder.
        folder: Where links to them are put.
    """
    if place.is_file():
        return place if place.stat().st_size < _LARGEST else None
    if not all((place / name).is_file() for name in files):
        return None
    if sum((place / name).stat().st_size for name in files) >= _LARGEST:
        return None
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        link(place / name, folder / name)
    return folder


def _config_folder(base: RecipeBase, places: BaseFiles, folder: Path) -> Path | None:
    """Return configuration and tokenizers for what lies in a single file, which holds neither."""
    whole, vae = places.model.is_file(), places.vae is not None and places.vae.is_file()
    if not whole and not vae:
        return None
    from lcm_lora.families.family import FAMILIES
    from lcm_lora.families.loading import tokenizers  # heavy

    for file in places.configs.rglob("*.json"):
        target = folder / file.relative_to(places.configs)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    if whole:
        for name, tokenizer in tokenizers(FAMILIES[base.family], places.tokenizer).items():
            tokenizer.save_pretrained(folder / name)
    return folder
