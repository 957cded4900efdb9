"""Write a LoRA under the names of each format, at a scale that every reader of it takes right.

Readers differ in what they know of alpha, so each format is given what all its readers know:
kohya's one alpha a component (diffusers loses others in attention and in text encoders), diffusers'
one rank a component and alpha = rank (before 0.34 it knows no other), PEFT's whatever there is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lcm_lora.alpha import alpha_tensor
from lcm_lora.combining.delta import COMPONENTS, Component, Factor, Lora, Module, scaled
from lcm_lora.combining.names import kohya_name
from lcm_lora.combining.opened import PEFT_CONFIG, PEFT_WEIGHTS
from lcm_lora.combining.peft_config import config_of
from lcm_lora.files import new_folder, write_json, write_tensors

Format = Literal["kohya", "diffusers", "peft"]
FORMATS: tuple[Format, ...] = get_args(Format)


def write_lora(lora: Lora, path: Path, format: Format, metadata: Mapping[str, str]) -> None:
    """Write what an adapter adds.

    Equal calls write equal bytes. Factors keep their dtypes; of a module whose scale the format
    cannot hold they change as `suited` says.

    Args:
        lora: Holds some module.
        path: A file; of `peft` a folder, replaced whole, with the UNet's adapter or a folder a
            component where there are others.
        format: `kohya` has the names of the published LCM-LoRAs.
        metadata: The file's header; see `lcm_lora.combining.header`. By `ss_base_model_version` it
            tells SDXL, whose first text encoder has another name.
    """
    lora = suited(lora, format)
    if format == "kohya":
        is_xl = metadata.get("ss_base_model_version", "").startswith("sdxl")
        write_tensors(path, kohya_tensors(lora, two_encoders=is_xl), metadata)
    elif format == "diffusers":
        write_tensors(path, _diffusers_tensors(lora), {**metadata, **_diffusers_header(lora)})
    else:
        _write_peft(lora, path, metadata)


def suited(lora: Lora, format: Format) -> Lora:
    """Return the same sum with scales, and ranks, that all readers of a format take right.

    What it already holds so is returned as it is. Otherwise factors are multiplied, without loss
    where that is by a power of two, and else in fp32; ranks grow by directions that are zero.
    Scales are those of an alpha in fp32: what is returned is what a reader of the file finds.
    """
    if format == "kohya":
        lora = _by_component(lora, _with_one_alpha)
    elif format == "diffusers":
        lora = _by_component(lora, _with_one_rank)
    return {module: replace(f, scale=f.alpha / f.rank) for module, f in lora.items()}


def kohya_tensors(lora: Lora, two_encoders: bool = False) -> dict[str, Tensor]:
    """Return a LoRA under the names of the published LCM-LoRAs, each module with its alpha.

    Args:
        lora: Of one alpha a component; see `suited`.
        two_encoders: The base has two text encoders, of which `lora` may change the first alone.
    """
    two = two_encoders or any(module.component == "text_encoder_2" for module in lora)
    tensors = {}
    for module, factor in lora.items():
        key = kohya_name(module, two)
        tensors[f"{key}.lora_down.weight"] = factor.down
        tensors[f"{key}.lora_up.weight"] = factor.up
        tensors[f"{key}.alpha"] = alpha_tensor(factor.alpha, factor.up.dtype)
    return tensors


def _diffusers_tensors(lora: Lora) -> dict[str, Tensor]:
    return {
        f"{module}.lora_{part}.weight": tensor
        for module, factor in lora.items()
        for part, tensor in (("A", factor.down), ("B", factor.up))
    }


def _diffusers_header(lora: Lora) -> dict[str, str]:
    found: dict[str, Any] = {}
    for component, factors in _components(lora).items():
        config = config_of(factors)
        if component != "unet":  # transformers 5 lost the first word of some of these names
            config["target_modules"] = sorted({name.rpartition(".")[2] for name in factors})
        found |= {f"{component}.{name}": value for name, value in config.items()}
    return {"lora_adapter_metadata": json.dumps(found, indent=2, sort_keys=True)}


def _write_peft(lora: Lora, path: Path, metadata: Mapping[str, str]) -> None:
    parts = _components(lora)
    with new_folder(path) as made:
        for component, factors in parts.items():
            folder = made if set(parts) == {"unet"} else made / component
            folder.mkdir(exist_ok=True)
            tensors = {
                f"base_model.model.{name}.lora_{part}.weight": tensor
                for name, factor in factors.items()
                for part, tensor in (("A", factor.down), ("B", factor.up))
            }
            write_tensors(folder / PEFT_WEIGHTS, tensors, metadata)
            write_json(folder / PEFT_CONFIG, _peft_config(factors))


def _peft_config(factors: Mapping[str, Factor]) -> dict[str, Any]:
    return {"peft_type": "LORA", "bias": "none", "inference_mode": True} | config_of(factors)


def _components(lora: Lora) -> dict[Component, dict[str, Factor]]:
    found: dict[Component, dict[str, Factor]] = {}
    for component in COMPONENTS:
        own = {module.name: f for module, f in lora.items() if module.component == component}
        if own:
            found[component] = own
    return found


def _by_component(lora: Lora, change: Callable[[dict[str, Factor]], dict[str, Factor]]) -> Lora:
    changed: dict[Module, Factor] = {}
    for component, factors in _components(lora).items():
        for name, factor in change(factors).items():
            changed[Module(component, name)] = factor
    return {module: changed[module] for module in lora}


def _with_one_alpha(factors: dict[str, Factor]) -> dict[str, Factor]:
    if "text_projection" in factors:  # diffusers takes its rank to be the others'
        most = max(factor.rank for factor in factors.values())
        factors = {name: _padded(factor, most) for name, factor in factors.items()}
    counts = Counter(factor.alpha for factor in factors.values() if factor.alpha)
    if len(counts) < 2 and len({f.alpha for f in factors.values()}) < 2:
        return factors
    alpha = max(counts, key=lambda value: (counts[value], value))
    return {
        name: scaled(f, f.alpha / alpha, alpha / f.rank) if f.alpha != alpha else f
        for name, f in factors.items()
    }


def _with_one_rank(factors: dict[str, Factor]) -> dict[str, Factor]:
    rank = max(factor.rank for factor in factors.values())
    return {name: _padded(scaled(f, f.scale, 1.0), rank) for name, f in factors.items()}


def _padded(factor: Factor, rank: int) -> Factor:
    missing = rank - factor.rank
    if not missing:
        return factor
    down, up = factor.down, factor.up
    return replace(
        factor,
        down=torch.cat([down, down.new_zeros(missing, *down.shape[1:])]),
        up=torch.cat([up, up.new_zeros(up.shape[0], missing, *up.shape[2:])], dim=1),
    )
