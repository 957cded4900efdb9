"""Who paints: a base and weighted adapters, each known by its content."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lcm_lora.adapter_files import RECIPE, WEIGHTS
from lcm_lora.champion_record import read_champion
from lcm_lora.errors import UserError
from lcm_lora.families.found import BaseInventory
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base import check_base_stands, read_base
from lcm_lora.inventory.painters import PainterInventory, adapter_file, check_suits
from lcm_lora.model_files import identity
from lcm_lora.params.generate import ADAPTER, CHAMPION, Generate
from lcm_lora.recipe import read_recipe
from lcm_lora.records import read_record

_MEND = "run `lcm-lora inventory`"


@dataclass(frozen=True, slots=True)
class Weighted:
    """An adapter's file of weights, and by how much it counts."""

    file: Path
    sha256: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Subject:
    """A base and the adapters on it."""

    base: BaseInventory
    adapters: tuple[Weighted, ...] = ()
    lcm_config: dict[str, Any] | None = None
    """Of the LCM scheduler, as the recipe of the first adapter that has one says."""

    @property
    def sha256(self) -> str:
        """Of all that decides what it paints, the sampler aside."""
        parts = {f"{i}": f"{a.sha256} {a.weight!r}" for i, a in enumerate(self.adapters)}
        return identity({"base": self.base.sha256, **parts})


@dataclass(frozen=True, slots=True)
class Places:
    """Where the parts of subjects are."""

    inventory: Path
    """What the first look wrote."""
    adapter: Path
    """The new adapter."""
    champion: Path
    """The champion's, and which it is."""


def subject_of(name: str, params: Generate, places: Places, hashes: Hashes) -> Subject | None:
    """Return who a painter is; None for the champion where there is none.

    Raises:
        UserError: The base or an adapter is missing, damaged or changed since the first look, or
            the adapter was distilled from another base, or the champion from one of other noise.
    """
    base = read_base(places.inventory / "base.json", hashes)
    if name == CHAMPION:
        champion, folder = read_champion(places.champion), places.champion / "adapter"
        if champion is None:
            return None
        check_suits(f"registry.name: {champion.version}", read_recipe(folder), base)
        return carrying(base, folder)
    if name == ADAPTER:
        return with_adapter(base, places.adapter)
    return read_subject(base, places.inventory / "painters" / f"{name}.json", hashes)


def with_adapter(base: BaseInventory, folder: Path) -> Subject:
    """Return the base with an adapter of this project, in its folder.

    Raises:
        UserError: It is missing, damaged, or was distilled from another base.
    """
    subject = carrying(base, folder)
    _check_made_for(base, folder)
    return subject


def carrying(base: BaseInventory, folder: Path) -> Subject:
    """Return a base, whichever, with an adapter of this project in its folder.

    Raises:
        UserError: The adapter is missing or damaged.
    """
    recipe = read_recipe(folder)
    weights = Weighted(folder / WEIGHTS, recipe.weights_sha256)
    return Subject(base, (weights,), recipe.scheduler.config)


def _check_made_for(base: BaseInventory, folder: Path) -> None:
    made = read_recipe(folder).base
    if made.sha256 != base.sha256:
        raise UserError(
            f"{folder}: distilled from {made.model} ({made.sha256[:12]}), but the base is "
            f"{base.model} ({base.sha256[:12]}); run `lcm-lora distill`"
        )


def read_subject(base: BaseInventory, path: Path, hashes: Hashes) -> Subject:
    """Return what the first look wrote to `path`: a base of its own or `base`, and adapters.

    Raises:
        UserError: A base or an adapter is missing, damaged or changed since the first look.
    """
    found = read_record(path, PainterInventory, _MEND)
    if found.base is not None:
        check_base_stands(found.base, hashes)
    weighted, config = [], None
    for adapter in found.adapters:
        file = adapter_file(adapter.name, adapter.commit)
        if hashes.sha256(file) != adapter.sha256:
            raise UserError(f"{file}: changed since the first look; {_MEND}")
        weighted.append(Weighted(file, adapter.sha256, adapter.weight))
        if config is None and (file.parent / RECIPE).is_file():
            config = read_recipe(file.parent).scheduler.config
    return Subject(found.base or base, tuple(weighted), config)
