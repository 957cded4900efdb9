"""Image sets of one sampler, for the captions of the evaluation set."""

from __future__ import annotations

from lcm_lora import layout
from lcm_lora.data.picture_sets import read_set
from lcm_lora.errors import one_of
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base import read_base
from lcm_lora.params.generate import Generate
from lcm_lora.params.hardware import Hardware
from lcm_lora.params.reading import load_section
from lcm_lora.recipe import read_recipe


def run(sampler: str) -> None:
    """Run the stage in the working folder; what is missing is said before anything heavy loads."""
    params = load_section(layout.PARAMS, Generate)
    hardware = load_section(layout.PARAMS, Hardware)
    name = one_of(sampler, params.cells)
    read_set(layout.EVALUATION, "real")
    if name == "lcm":
        read_recipe(layout.ADAPTER)
    with Hashes(layout.HASHES) as hashes:
        found = read_base(layout.INVENTORY / "base.json", hashes)
    from lcm_lora.bases import load_base
    from lcm_lora.sampling import generate

    base = load_base(found, hardware)
    generate(params, name, base, layout.EVALUATION, layout.ADAPTER, layout.IMAGES / name)
