"""Which base there is now, and whether it is still the one that the first look found."""

from __future__ import annotations

from pathlib import Path

from lcm_lora.errors import UserError
from lcm_lora.families.found import BaseInventory, Places
from lcm_lora.families.header import read_header
from lcm_lora.families.structure import (
    Structure,
    family_of_file,
    structure_of_file,
    structure_of_folder,
)
from lcm_lora.families.vocabulary import find_merges, merges_sha256
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.hub import cached_folder, find_on_hub
from lcm_lora.model_files import files_of_model, identity
from lcm_lora.params.base import Base
from lcm_lora.records import read_record
from lcm_lora.shapes import places

_PICKLES = {".ckpt", ".pt", ".pth", ".bin"}
_UNREAD = ("safety_checker", "feature_extractor", "image_encoder")
"""Folders of a base that nothing here loads."""
_MEND = "run `lcm-lora inventory`"


def look_at_base(base: Base, hashes: Hashes) -> BaseInventory:
    """Return what the base is made of; a hub id is resolved to its commit and fetched once.

    Raises:
        UserError: There is no such base, it is pickled, damaged, or no Stable Diffusion that
            paints from text.
    """
    model, commit = _place("base.model", base.model, base.revision, "model_index.json")
    vae, vae_commit = (
        _place("base.vae", base.vae, None, "config.json") if base.vae else (None, None)
    )
    places_ = _places(base, model, vae)
    files = _files(places_, hashes)
    structure = _structure(places_, base)
    return BaseInventory(
        model=base.model,
        commit=commit,
        files=files,
        sha256=identity({**files, "prediction_type": structure.prediction_type}),
        structure=structure,
        config=base.config,
        vae=base.vae,
        vae_commit=vae_commit,
    )


def read_base(path: Path, hashes: Hashes) -> BaseInventory:
    """Return the base that the first look wrote to `path`, after checking that it still stands.

    Raises:
        UserError: There is no such file, or the base changed since.
    """
    known = read_record(path, BaseInventory, _MEND)
    places_ = places_of(known)
    for place in (places_.model, places_.configs, places_.vae):
        if place and not place.exists():
            raise UserError(f"base.model {known.model}: {place} is gone; {_MEND}")
    if _files(places_, hashes) != known.files:
        raise UserError(f"base.model {known.model}: changed since the first look; {_MEND}")
    return known


def places_of(found: BaseInventory) -> Places:
    """Return where the files of a base that was found lie on this machine.

    Raises:
        UserError: They are not here.
    """
    base = Base(model=found.model, config=found.config, vae=found.vae)
    model = _here(found.model, found.commit, "model_index.json")
    vae = _here(found.vae, found.vae_commit, "config.json") if found.vae else None
    return _places(base, model, vae)


def _places(base: Base, model: Path, vae: Path | None) -> Places:
    if model.is_dir():
        return Places(model, model, None, vae)
    header = read_header(model)
    configs = family_of_file(model, header).configs
    if base.config is None:
        return Places(model, configs, None, vae)
    own = Path(base.config)
    has = {name: (own / name).exists() for name in ("model_index.json", "tokenizer")}
    if not any(has.values()):
        raise UserError(
            f"base.config {own}: holds neither model_index.json nor tokenizer/; name a folder in "
            "the diffusers layout"
        )
    return Places(
        model,
        own if has["model_index.json"] else configs,
        own if has["tokenizer"] else None,
        vae,
    )


def _place(what: str, name: str, revision: str | None, index: str) -> tuple[Path, str | None]:
    """Return where a model is, and its commit if it is on the hub."""
    if name == "shapes":
        return places.BASE, None
    path = Path(name)
    if path.suffix in _PICKLES:
        raise UserError(f"{what} {path}: pickled weights are refused; convert to safetensors")
    if path.exists() or path.suffix == ".safetensors" or path.is_absolute():
        if not path.exists():
            raise UserError(f"{what} {path}: no such file or folder; mend its place in params.yaml")
        return path, None
    found = find_on_hub(what, name, revision, index)
    return found.folder, found.commit


def _here(name: str, commit: str | None, index: str) -> Path:
    if name == "shapes":
        return places.BASE
    if commit is None:
        return Path(name)
    folder = cached_folder(name, commit, index)
    if folder is None:
        raise UserError(f"base.model {name}: commit {commit} is not in the hub cache; {_MEND}")
    return folder


def _files(places_: Places, hashes: Hashes) -> dict[str, str]:
    """Return the hash of every file that loading reads."""
    if places_.model.is_file():
        found = {places_.model.name: hashes.sha256(places_.model)}
        found |= _single_file_extras(places_, hashes)
    else:
        found = {
            name: sha
            for name, sha in files_of_model(places_.model, hashes).items()
            if name == "model_index.json" or ("/" in name and not name.startswith(_UNREAD))
        }
        _check_folder(places_.model, found, skip="vae" if places_.vae else None)
    if places_.vae:
        found = {name: sha for name, sha in found.items() if not name.startswith("vae/")}
        found |= {f"vae/{n}": sha for n, sha in files_of_model(places_.vae, hashes).items()}
    return found


def _single_file_extras(places_: Places, hashes: Hashes) -> dict[str, str]:
    """Return the hashes of what a single file lacks."""
    extras: dict[str, str] = {}
    for folder in {places_.configs, *([places_.tokenizer] if places_.tokenizer else [])}:
        extras |= {
            f"config/{name}": sha
            for name, sha in files_of_model(folder, hashes).items()
            if not name.endswith(".safetensors")
        }
    if places_.tokenizer is None:
        extras["config/merges"] = merges_sha256(find_merges())
    return extras


def _check_folder(folder: Path, files: dict[str, str], skip: str | None) -> None:
    """Refuse a folder whose weights are pickled, cut short or not there."""
    for part in {"unet", "vae", "text_encoder"} - {skip}:
        weights = [name for name in files if name.startswith(f"{part}/") and _is_weights(name)]
        if not weights:
            pickled = any((folder / part).glob("*.bin"))
            why = "its weights are pickled, which is refused" if pickled else "holds no weights"
            mend = "convert it to safetensors" if pickled else "fetch it, or name another base"
            if part == "vae" and not pickled:
                mend = "fetch it, or name an autoencoder as base.vae"
            raise UserError(f"base.model {folder}: {part}: {why}; {mend}")
        for name in weights:
            read_header(folder / name)


def _is_weights(name: str) -> bool:
    return name.endswith(".safetensors")


def _structure(places_: Places, base: Base) -> Structure:
    if places_.model.is_file():
        header = read_header(places_.model)
        return structure_of_file(
            places_.model, header, places_.configs, places_.vae, base.prediction_type
        )
    vae = places_.vae if places_.vae and places_.vae.is_dir() else None
    found = structure_of_folder(places_.model, vae)
    return found.model_copy(
        update={"prediction_type": base.prediction_type or found.prediction_type}
    )
