"""Style LoRAs of tiny bases, untrained, for tests that need one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from tiny_bases import tiny_pipeline

from lcm_lora.adapter import published
from lcm_lora.families.family import FamilyName
from lcm_lora.files import write_tensors

_TARGETS = {
    "unet": ["to_k", "to_v"],
    "te": ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"],
}


def write_style(path: Path, family: FamilyName, seed: int, texts: bool = False) -> Path:
    """Write a style of rank 2 for the captions' attention, and for the text encoder if asked."""
    return write_style_of(tiny_pipeline(family), path, seed, texts)


def write_style_of(pipeline: Any, path: Path, seed: int, texts: bool = False) -> Path:
    """Write one that fits a pipeline, which is left with it attached."""
    parts = {"unet": pipeline.unet} | ({"te": pipeline.text_encoder} if texts else {})
    tensors: dict[str, torch.Tensor] = {}
    for number, (name, network) in enumerate(parts.items()):
        _attach(network, _TARGETS[name], 10 * seed + number)
        tensors |= published(network, torch.float16) if name == "unet" else _texts_of(network)
    write_tensors(path, tensors)
    return path


def _attach(network: Any, targets: list[str], seed: int) -> None:
    network.requires_grad_(False)
    network.add_adapter(LoraConfig(r=2, lora_alpha=3, target_modules=targets))
    rng = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data = torch.randn(parameter.shape, generator=rng) * 0.3


def _texts_of(network: Any) -> dict[str, torch.Tensor]:
    """Return a text encoder's under kohya's names, as `published` returns a UNet's."""
    tensors = {}
    for name, value in get_peft_model_state_dict(network).items():
        module, part, _ = name.rsplit(".", 2)
        key = f"lora_te_text_model_{module.replace('.', '_')}"
        half = {"lora_A": "lora_down", "lora_B": "lora_up"}[part]
        tensors |= {f"{key}.{half}.weight": value.half(), f"{key}.alpha": torch.tensor(3.0)}
    return tensors
