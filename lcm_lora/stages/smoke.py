"""Pictures that a version must paint again, through the registry, before it is champion."""

from __future__ import annotations

from lcm_lora import layout
from lcm_lora.data.picture_sets import read_set
from lcm_lora.files import new_folder
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base import read_base
from lcm_lora.painting.subject import with_adapter
from lcm_lora.params.hardware import Hardware
from lcm_lora.params.reading import load_section
from lcm_lora.params.registry import Registry
from lcm_lora.recipe import read_recipe
from lcm_lora.records import write_record
from lcm_lora.smoke import SMOKE, Smoke


def run() -> None:
    """Run the stage in the working folder; what is missing is said before anything heavy loads."""
    count = load_section(layout.PARAMS, Registry).smoke
    hardware = load_section(layout.PARAMS, Hardware)
    prompts = read_set(layout.EVALUATION, "real").captions[:count]
    recipe = read_recipe(layout.ADAPTER)
    if not count:
        _write_none(recipe.weights_sha256)
        return
    with Hashes(layout.HASHES) as hashes:
        base = read_base(layout.INVENTORY / "base.json", hashes)
    subject = with_adapter(base, layout.ADAPTER)
    from lcm_lora.painting.smoke import paint_smoke

    paint_smoke(recipe, subject, prompts, hardware, layout.SMOKE)


def _write_none(adapter_sha256: str) -> None:
    """Say that no pictures are asked for."""
    nothing = Smoke(
        adapter_sha256=adapter_sha256, device=None, threads=None, precision=None, pictures=()
    )
    with new_folder(layout.SMOKE) as made:
        write_record(made / SMOKE, nothing)
