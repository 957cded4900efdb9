"""What painters and subjects name of their own: bases, and adapters from wherever they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from lcm_lora.adapter_files import RECIPE, WEIGHTS
from lcm_lora.combining.keys import parse_all
from lcm_lora.combining.opened import single_file
from lcm_lora.errors import UserError
from lcm_lora.families.found import BaseInventory
from lcm_lora.families.header import Header, is_pickle, read_header
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base import look_at_base
from lcm_lora.inventory.base_files import where_is
from lcm_lora.inventory.finite import not_finite
from lcm_lora.inventory.hub import cached_folder, find_on_hub
from lcm_lora.inventory.modules import brought_file, is_published
from lcm_lora.params.base import Base
from lcm_lora.params.generate import Generate
from lcm_lora.recipe import Recipe, read_recipe
from lcm_lora.records import Record
from lcm_lora.shapes import places

_TAKES_CAPTIONS = ("attn2.to_k", "attn2.to_v")
"""Layers of which the first factor is [rank, width of a caption's text]."""
_MEND = "fetch it again, or name another adapter"

SHARED = {
    "prediction_type": "prediction_type",
    "zero_snr": "rescale_betas_zero_snr",
    "training_steps": "num_train_timesteps",
}
"""What an adapter's base shares with that which it was trained on, as diffusers calls it."""


class AdapterFound(Record):
    """An adapter that a painter names: where from, the SHA-256 of its weights, and its weight."""

    name: str
    """As the parameters name it: a file, a folder, a hub id, or a version in the registry."""
    commit: str | None
    """Of a hub id."""
    sha256: str
    weight: float


class PainterInventory(Record):
    """What a painter or a subject names beside `base.model` and the new adapter."""

    base: BaseInventory | None
    adapters: tuple[AdapterFound, ...]


def look_at_painters(
    generate: Generate, base: BaseInventory, hashes: Hashes
) -> dict[str, PainterInventory]:
    """Return what each painter names, by the painter's name.

    Raises:
        UserError: Something is missing, pickled, damaged, no adapter, or made for another family.
    """
    return {
        name: look_at_named(
            f"generate painter {name}", painter.base, painter.adapters, base, hashes
        )
        for name, painter in generate.painters.items()
    }


def look_at_named(
    where: str,
    own_base: str | None,
    adapters: Mapping[str, float],
    base: BaseInventory,
    hashes: Hashes,
) -> PainterInventory:
    """Return what somebody names: a base or none, and adapters with their weights.

    Args:
        where: Who names it, for messages.
        own_base: Another base than `base`.
        adapters: As `look_at_adapter` takes them, and by how much each counts.
        base: That of the project.
        hashes: Of files that were read before.

    Raises:
        UserError: As `look_at_painters` does.
    """
    own = _base(where, own_base, base, hashes) if own_base else None
    found = [
        look_at_adapter(where, adapter, weight, own or base, hashes)
        for adapter, weight in adapters.items()
    ]
    return PainterInventory(base=own, adapters=tuple(found))


def look_at_adapter(
    where: str, name: str, weight: float, base: BaseInventory, hashes: Hashes
) -> AdapterFound:
    """Return what an adapter is that somebody names.

    Args:
        where: Who names it, for messages.
        name: A file, a folder, a hub id, a version in the registry, or `shapes-ink`.
        weight: By how much it counts.
        base: What it is put on.
        hashes: Of files that were read before.

    Raises:
        UserError: It is missing, pickled, damaged, no LoRA, not finite, trained over another noise
            as far as its recipe tells, or made for another family, as far as names and the width of
            captions tell; the rest shows when it is put on.
    """
    path, commit = Path(name), None
    if is_pickle(path):
        raise UserError(f"{where}: {name}: pickled weights are refused; convert to safetensors")
    if not (path.exists() or is_published(name) or name in places.STYLES):
        if path.suffix == ".safetensors" or path.is_absolute():
            raise UserError(f"{where}: {name}: no such adapter; name one that is there")
        identifier, _, revision = name.partition("@")
        commit = find_on_hub(where, identifier, revision or None, WEIGHTS).commit
    try:
        file = adapter_file(name, commit)
        header = read_header(file, _MEND)
        if (file.parent / RECIPE).is_file():
            check_suits(name, read_recipe(file.parent, _MEND), base)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    _check_fits(f"{where}: {file}", header, base)
    if tensor := not_finite(file):
        raise UserError(
            f"{where}: {file}: {tensor[:80]} holds numbers that are not finite; {_MEND}"
        )
    return AdapterFound(name=name, commit=commit, sha256=hashes.sha256(file), weight=weight)


def adapter_file(name: str, commit: str | None) -> Path:
    """Return where the weights of an adapter are on this machine.

    Raises:
        UserError: They are not here, or it cannot be told which file they are.
    """
    if is_published(name):
        return brought_file(name)
    if name in places.STYLES:
        return places.STYLES[name]
    if commit is None:
        return _file_in(Path(name))
    folder = cached_folder(name.partition("@")[0], commit, WEIGHTS)
    if folder is None:
        raise UserError(
            f"{name}: no {WEIGHTS} in the hub cache; run `lcm-lora inventory`, or name a file"
        )
    return folder / WEIGHTS


def check_suits(where: str, recipe: Recipe, base: BaseInventory) -> None:
    """Check that an adapter steps over the noise of a base, and predicts what that predicts.

    Raises:
        UserError: It was trained on a base that differs in that.
    """
    trained = recipe.scheduler.config
    for name, setting in SHARED.items():
        its = getattr(base.structure, name)
        if trained.get(setting, its) != its:
            raise UserError(
                f"{where}: was trained where {setting} is {trained[setting]}, of {base.model} it "
                f"is {its}; name another"
            )


def _base(where: str, model: str, base: BaseInventory, hashes: Hashes) -> BaseInventory:
    try:
        own = look_at_base(Base(model=model), hashes)
    except UserError as error:
        raise UserError(f"{where}: {str(error).replace('base.model', 'base', 1)}") from None
    if own.structure.family != base.structure.family:
        raise UserError(
            f"{where}: {model} is of {own.structure.family}, base.model of "
            f"{base.structure.family}; take a fine-tune of the same family"
        )
    if own.structure.unet_channels != base.structure.unet_channels:
        raise UserError(
            f"{where}: the denoiser of {model} takes {own.structure.unet_channels} channels, that "
            f"of base.model {base.structure.unet_channels}; take a base that paints from text alone"
        )
    return own


def _check_fits(where: str, header: Header, base: BaseInventory) -> None:
    """Refuse what is no adapter, or one for a base whose captions are told in another width."""
    keys = parse_all(where, header.shapes)
    if not keys:
        raise UserError(f"{where}: holds no LoRA; name the file of an adapter")
    config = json.loads((where_is(base).configs / "unet" / "config.json").read_text())
    wanted = config["cross_attention_dim"]
    for tensor, key in keys.items():
        shape = header.shapes[tensor]
        takes = key.part == "down" and key.module.name.endswith(_TAKES_CAPTIONS)
        if takes and len(shape) > 1 and shape[1] != wanted:
            raise UserError(
                f"{where}: takes captions {shape[1]} wide, {base.model} tells them {wanted} wide; "
                "name an adapter for this family"
            )


def _file_in(path: Path) -> Path:
    if not path.exists():
        raise UserError(f"{path}: is gone from where it was; run `lcm-lora inventory`")
    return single_file(path)
