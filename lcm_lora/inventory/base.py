"""Which base there is now, and whether it is still the one that the first look found."""

from __future__ import annotations

from pathlib import Path

from lcm_lora.errors import UserError
from lcm_lora.families.found import BaseFiles, BaseInventory
from lcm_lora.families.header import read_header
from lcm_lora.families.structure import Structure, structure_of_file, structure_of_folder
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base_files import find_model, hash_files, lay_out, where_is
from lcm_lora.inventory.modules import check_published, is_published
from lcm_lora.model_files import identity
from lcm_lora.params.base import Base
from lcm_lora.records import read_record

_MEND = "run `lcm-lora inventory`"


def look_at_base(base: Base, hashes: Hashes) -> BaseInventory:
    """Return what the base is made of; a hub id is resolved to its commit and fetched once.

    Raises:
        UserError: There is no such base, it is pickled, damaged, or no Stable Diffusion that
            paints from text.
    """
    model, commit = find_model("base.model", base.model, base.revision)
    vae, vae_commit = _find_vae(base.vae) if base.vae else (None, None)
    files = lay_out(model, base.config, vae)
    structure = _structure(files, base)
    sums = hash_files(files, structure, hashes)
    found = BaseInventory(
        model=base.model,
        commit=commit,
        files=sums,
        sha256=identity({**sums, "prediction_type": structure.prediction_type}),
        structure=structure,
        config=base.config,
        vae=base.vae,
        vae_commit=vae_commit,
    )
    if is_published(base.model):
        check_published(found)
    return found


def read_base(path: Path, hashes: Hashes) -> BaseInventory:
    """Return the base that the first look wrote to `path`, after checking that it still stands.

    Raises:
        UserError: There is no such file, or the base is gone or changed since.
    """
    known = read_record(path, BaseInventory, _MEND)
    check_base_stands(known, hashes)
    return known


def check_base_stands(known: BaseInventory, hashes: Hashes) -> None:
    """Check that a base is still the one that the first look found.

    Raises:
        UserError: It is gone or changed since.
    """
    if hash_files(where_is(known), known.structure, hashes) != known.files:
        raise UserError(f"base.model {known.model}: changed since the first look; {_MEND}")


def _find_vae(name: str) -> tuple[Path, str | None]:
    """Find another autoencoder; a hub id may name its revision, as in `owner/name@revision`."""
    identifier, _, revision = name.partition("@")
    if not revision or Path(name).exists():
        return find_model("base.vae", name, None)
    return find_model("base.vae", identifier, revision)


def _structure(files: BaseFiles, base: Base) -> Structure:
    if files.model.is_file():
        header = read_header(files.model)
        return structure_of_file(
            files.model, header, files.configs, files.vae, base.prediction_type
        )
    vae = files.vae if files.vae and files.vae.is_dir() else None
    found = structure_of_folder(files.model, vae)
    return found.model_copy(
        update={"prediction_type": base.prediction_type or found.prediction_type}
    )
