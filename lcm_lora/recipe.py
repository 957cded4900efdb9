"""The record beside an adapter: how it was made, how it is to be sampled, which files it is."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from lcm_lora.adapter_files import KOHYA, RECIPE, WEIGHTS
from lcm_lora.families.family import FamilyName
from lcm_lora.records import Open, Record, check_file, read_record

_MEND = "run `lcm-lora select`"


class RecipeGrid(Record):
    """The time steps that were trained."""

    points: int
    skip: int
    timesteps: tuple[int, ...]


class RecipeScheduler(Record):
    """The diffusers scheduler that samples the adapter."""

    kind: str = Field(alias="class")
    config: Open


class Recommended(Record):
    """How the adapter is best sampled."""

    steps: tuple[int, ...]
    guidance: float


class RecipeGuidance(Record):
    """The guidance of the teacher that went in."""

    convention: str
    low: float
    high: float


class RecipeLora(Record):
    """Where the adapter sits."""

    rank: int
    alpha: int
    targets: tuple[str, ...]


class RecipeBase(Record):
    """The base that the adapter belongs to; `sha256` is over the base's files."""

    model: str
    revision: str | None
    family: FamilyName
    sha256: str
    files: dict[str, str]
    """SHA-256 of each file, by its name in the base's folder; see `BaseInventory`."""
    config: str | None = None
    """Of a single file: the whole diffusers folder of configuration that the parameters name."""
    vae: str | None = None
    """Another autoencoder in place of the base's own, as the parameters name it."""
    vae_revision: str | None = None

    def files_of(self, part: Literal["base", "vae"]) -> dict[str, str]:
        """Return the files of the base itself, or of another autoencoder, by their names there."""
        if part == "base":
            others = ("config/", "vae/") if self.vae else ("config/",)
            return {name: sha for name, sha in self.files.items() if not name.startswith(others)}
        if self.vae is None:
            return {}
        names = [name for name in self.files if name.startswith("vae/")]
        return {name.removeprefix("vae/"): self.files[name] for name in names}


class RecipeData(Record):
    """What it was trained on."""

    shards_sha256: str
    cache_sha256: str
    samples: int


class Recipe(Record):
    """How an adapter was made and how it is to be sampled."""

    objective: str
    grid: RecipeGrid
    prediction_type: str
    scheduler: RecipeScheduler
    recommended: Recommended
    guidance: RecipeGuidance
    lora: RecipeLora
    base: RecipeBase
    data: RecipeData
    step: int
    """After which optimiser step it was taken."""
    params: Open
    hardware: Open
    versions: dict[str, str]
    weights_sha256: str
    kohya_sha256: str


def read_recipe(adapter: Path, mend: str = _MEND) -> Recipe:
    """Read the recipe in the folder `adapter`, and check the weights beside it.

    Args:
        adapter: A folder as `write_adapter` leaves it.
        mend: What the user can do if something is wrong with it.

    Raises:
        UserError: Something of it is missing or damaged.
    """
    recipe = read_record(adapter / RECIPE, Recipe, mend)
    check_file(adapter / WEIGHTS, recipe.weights_sha256, mend)
    check_file(adapter / KOHYA, recipe.kohya_sha256, mend)
    return recipe
