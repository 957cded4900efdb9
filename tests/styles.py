"""Style LoRAs of tiny bases, untrained, for tests that need one."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from tiny_bases import tiny_pipeline

from lcm_lora.adapter import published
from lcm_lora.families.family import FamilyName
from lcm_lora.files import write_tensors

_TARGETS = {
    "unet": ["to_k", "to_v"],
    "te": ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"],
}
_PARTS = ("lora_down.weight", "alpha", "dora_scale")


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


def write_harm(harm: str, folder: Path, style: Path, other: Path) -> Path:
    """Write what is no style for the base of `style`; `other` is one for another family."""
    file = folder / "harm.safetensors"
    tensors = load_file(style)
    first = min(name for name in tensors if name.endswith(_PARTS[0])).removesuffix(f".{_PARTS[0]}")
    down, alpha, magnitude = (f"{first}.{part}" for part in _PARTS)
    match harm:
        case "nan":
            save_file(tensors | {down: tensors[down] * float("nan")}, file)
        case "alphas that differ":
            save_file(tensors | {alpha: tensors[alpha] * 2}, file)
        case "dora":
            save_file(tensors | {magnitude: torch.ones(8)}, file)
        case "no lora":
            save_file({"conv.weight": torch.zeros(2)}, file)
        case "empty":
            save_file({}, file)
        case "cut short":
            file.write_bytes(style.read_bytes()[:-9])
        case "a pickle's content":
            file.write_bytes(pickle.dumps({"lora": 1}))
        case "a pickle's name":
            file = file.with_suffix(".pt")
            file.write_bytes(pickle.dumps({"lora": 1}))
        case "other family":
            shutil.copy(other, file)
        case "peft":
            file = folder / "peft"
            file.mkdir()
            shutil.copy(style, file / "adapter_model.safetensors")
        case "several":
            file = folder / "several"
            file.mkdir()
            for name in "ab":
                shutil.copy(style, file / f"{name}.safetensors")
    return file


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
