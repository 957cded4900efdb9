"""Where the files of a base lie, and their content."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lcm_lora import layout
from lcm_lora.errors import UserError
from lcm_lora.families.family import FAMILIES
from lcm_lora.families.found import BaseFiles, BaseInventory
from lcm_lora.families.header import is_pickle, read_header
from lcm_lora.families.parts import files_of_part, parts_of, texts_of, words_of
from lcm_lora.families.structure import Structure, family_of_file
from lcm_lora.families.vocabulary import find_merges, merges_sha256
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.hub import cached_folder, find_on_hub
from lcm_lora.inventory.modules import brought_base, is_published
from lcm_lora.shapes import places
from lcm_lora.shapes.finetune import assembled

_INDEX = {"base.model": "model_index.json", "base.vae": "config.json"}
"""The file that every repository of a kind holds."""
_MEND = "run `lcm-lora inventory`"


def find_model(what: str, name: str, revision: str | None) -> tuple[Path, str | None]:
    """Return where a model is, and its commit if it is on the hub.

    Args:
        what: The parameter that names it: `base.model` or `base.vae`.
        name: `shapes`, `shapes-dusk`, a file, a folder, a hub id, or a fine-tune in the registry.
        revision: Of a hub id.

    Raises:
        UserError: There is none, or it is a pickle.
    """
    if shipped := _shipped(what, name):
        return shipped, None
    if is_published(name):
        inside, published = brought_base(name)
        return (inside, None) if inside else find_model(what, published.model, published.commit)
    path = Path(name)
    if is_pickle(path):
        raise UserError(f"{what} {path}: pickled weights are refused; convert to safetensors")
    if path.exists():
        return path, None
    if path.suffix == ".safetensors" or path.is_absolute():
        raise UserError(f"{what} {path}: no such file or folder; mend its place in params.yaml")
    found = find_on_hub(what, name, revision, _INDEX[what])
    return found.folder, found.commit


def _shipped(what: str, name: str) -> Path | None:
    """Return where a base is that the package ships; a fine-tune is put together in the project."""
    if what != "base.model":
        return None
    if name in places.FINE_TUNES:
        return assembled(name, layout.CHECKPOINTS)
    return places.BASE if name == "shapes" else None


def where_is(found: BaseInventory) -> BaseFiles:
    """Return where the files of a base that was found lie on this machine.

    Raises:
        UserError: They are not here.
    """
    model = _here("base.model", found.model, found.commit)
    vae = _here("base.vae", found.vae, found.vae_commit) if found.vae else None
    return lay_out(model, found.config, vae)


def _here(what: str, name: str, commit: str | None) -> Path:
    if shipped := _shipped(what, name):
        return shipped
    if is_published(name):
        inside, published = brought_base(name)
        return inside or _here(what, published.model, commit)
    path = cached_folder(name.partition("@")[0], commit, _INDEX[what]) if commit else Path(name)
    if path is None or not path.exists():
        raise UserError(f"{what} {name}: is gone from where it was; {_MEND}")
    return path


def lay_out(model: Path, config: str | None, vae: Path | None) -> BaseFiles:
    """Return where each part of a base is taken from.

    Args:
        model: A folder or a single file.
        config: Of a single file, as the parameters name it.
        vae: Another autoencoder.

    Raises:
        UserError: The file is no Stable Diffusion, or `config` is nothing for it.
    """
    if model.is_dir():
        return BaseFiles(model, model, None, vae)
    published = family_of_file(model, read_header(model)).configs
    if config is None:
        return BaseFiles(model, published, None, vae)
    own = Path(config)
    whole, words = (own / "model_index.json").is_file(), (own / "tokenizer").is_dir()
    if not whole and not words:
        raise UserError(
            f"base.config {own}: holds neither model_index.json nor tokenizer/; name a folder in "
            "the diffusers layout"
        )
    return BaseFiles(model, own if whole else published, own if words else None, vae)


def hash_files(files: BaseFiles, structure: Structure, hashes: Hashes) -> dict[str, str]:
    """Return the hash of every file that loading reads, and of no other.

    Raises:
        UserError: Some of them are missing, pickled, or cut short.
    """
    is_xl, skip = FAMILIES[structure.family].is_xl, "vae" if files.vae else None
    if files.model.is_dir():
        named = dict(_of_folder(files.model, is_xl, skip))
    else:
        named = {files.model.name: files.model, **dict(_of_single_file(files, is_xl, skip))}
    if files.vae:
        named |= dict(_of_vae(files.vae, files.configs))
    for path in named.values():
        if not path.is_file():
            raise UserError(f"{path}: no such file; fetch the base again, or name another base")
        if path.suffix == ".safetensors":
            read_header(path)
    found = {name: hashes.sha256(path) for name, path in sorted(named.items())}
    if files.model.is_file() and files.tokenizer is None:
        found["config/merges"] = merges_sha256(find_merges())
    return found


def _of_folder(folder: Path, is_xl: bool, skip: str | None) -> Iterator[tuple[str, Path]]:
    names = ["model_index.json", "scheduler/scheduler_config.json"]
    for part in parts_of(is_xl):
        if part != skip:
            within = files_of_part(folder / part, part, f"base.model {folder}: {part}")
            names += [f"{part}/{name}" for name in within]
    for words in words_of(is_xl):
        texts = list(texts_of(folder, words))
        if not texts:
            raise UserError(f"base.model {folder}: holds no {words}; fetch it again")
        names += texts
    return ((name, folder / name) for name in names)


def _of_single_file(files: BaseFiles, is_xl: bool, skip: str | None) -> Iterator[tuple[str, Path]]:
    """Yield the configuration that stands for what a single file lacks."""
    parts = [part for part in parts_of(is_xl) if part != skip]
    names = ["model_index.json", "scheduler/scheduler_config.json"]
    for name in (*names, *(f"{part}/config.json" for part in parts)):
        yield f"config/{name}", files.configs / name
    if files.tokenizer is None:
        return
    for words in words_of(is_xl):
        for name in texts_of(files.tokenizer, words):
            yield f"config/{name}", files.tokenizer / name


def _of_vae(vae: Path, configs: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of another autoencoder; one in a file is read with the base's configuration.

    Raises:
        UserError: It holds no weights, or not those of an autoencoder.
    """
    if vae.is_file():
        _check_vae(vae)
        yield f"vae/{vae.name}", vae
        yield "config/vae/config.json", configs / "vae" / "config.json"
        return
    for name in files_of_part(vae, "vae", f"base.vae {vae}"):
        yield f"vae/{name}", vae / name


def _check_vae(file: Path) -> None:
    try:
        header = read_header(file)
    except UserError as error:
        raise UserError(f"base.vae {error}") from None
    if not any(name.endswith("decoder.conv_in.weight") for name in header.shapes):
        raise UserError(f"base.vae {file}: holds no autoencoder; name another, or none")
