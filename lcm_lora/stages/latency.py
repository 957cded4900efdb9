"""How long pictures take on this device."""

from __future__ import annotations

from lcm_lora import layout
from lcm_lora.data.picture_sets import read_set
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base import read_base
from lcm_lora.params.generate import Generate
from lcm_lora.params.hardware import Hardware
from lcm_lora.params.reading import load_section


def run() -> None:
    """Run the stage in the working folder; what is missing is said before anything heavy loads."""
    params = load_section(layout.PARAMS, Generate)
    hardware = load_section(layout.PARAMS, Hardware)
    read_set(layout.EVALUATION, "real")
    with Hashes(layout.HASHES) as hashes:
        found = read_base(layout.INVENTORY / "base.json", hashes)
    from lcm_lora.bases import load_base
    from lcm_lora.painting.latency import measure_latency

    measure_latency(params, load_base(found, hardware), layout.EVALUATION, layout.LATENCY)
