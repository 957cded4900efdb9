"""The header of a combined adapter: what UIs and trainers look for, and what went in.

It names the base as the adapters that went in do; see `lcm_lora.adapter_metadata` for who reads
what. Nothing in it names a date, a place or a machine.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from lcm_lora.combining.delta import Lora
from lcm_lora.combining.part import Part
from lcm_lora.combining.peft_config import config_of

_OF_THE_BASE = (
    *("ss_base_model_version", "ss_v2", "modelspec.architecture", "modelspec.prediction_type"),
    "modelspec.resolution",
)
_FOR_PEOPLE = ("modelspec.usage_hint", "modelspec.trigger_phrase")
_VERSIONS = {
    "SD-1.x": ("sd_v1", "stable-diffusion-v1"),
    "SD-2.x": ("sd_v2", "stable-diffusion-v2-512"),
    "SDXL or SSD-1B": ("sdxl_base_v1-0", "stable-diffusion-xl-v1-base"),
}
"""By family, how sd-scripts and ModelSpec name the base where no adapter does."""
COMBINED = "lcm_lora.combined"
"""The key of what went in: names without places, hashes, weights."""


def combined_header(parts: Sequence[Part], lora: Lora) -> dict[str, str]:
    """Return the header of the sum of `parts`, whose factors are `lora`."""
    return _of_the_base(parts) | _network(lora) | _for_people(parts) | {COMBINED: _went_in(parts)}


def _of_the_base(parts: Sequence[Part]) -> dict[str, str]:
    family = next((part.family for part in parts if part.family), "")
    found: dict[str, str] = {}
    if family in _VERSIONS:
        version, architecture = _VERSIONS[family]
        found = {
            "ss_base_model_version": version,
            "ss_v2": str(family == "SD-2.x"),
            "modelspec.architecture": f"{architecture}/lora",
        }
    for part in reversed(parts):  # the first that says something has the last word
        found |= {key: part.metadata[key] for key in _OF_THE_BASE if key in part.metadata}
    return found


def _network(lora: Lora) -> dict[str, str]:
    """Return rank and alpha as sd-scripts writes them, `Dynamic` for ranks that differ."""
    config = config_of({str(module): factor for module, factor in lora.items()})
    rank = "Dynamic" if config["rank_pattern"] else str(config["r"])
    alpha = "Dynamic" if config["alpha_pattern"] else str(config["lora_alpha"])
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": rank,
        "ss_network_alpha": alpha,
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.implementation": "diffusers",
    }


def _for_people(parts: Sequence[Part]) -> dict[str, str]:
    found = {"modelspec.title": " + ".join(f"{part.weight:g} {part.path.stem}" for part in parts)}
    for key in _FOR_PEOPLE:
        told = [part.metadata for part in parts if part.weight > 0]  # one taken away needs none
        said = dict.fromkeys(metadata[key] for metadata in told if key in metadata)
        if said:
            found[key] = " ".join(said)
    return found


def _went_in(parts: Sequence[Part]) -> str:
    return json.dumps(
        [{"name": part.path.name, "sha256": part.sha256, "weight": part.weight} for part in parts]
    )
