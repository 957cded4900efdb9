"""The names of a LoRA's tensors, in every format that people have, taken apart.

A name is a module's and a part's: `lora_unet_X.lora_down.weight` (kohya, and the published
LCM-LoRAs), `unet.X.lora_A.weight` (diffusers), `base_model.model.X.lora_A.weight` (PEFT),
`unet.X.processor.to_q_lora.down.weight` and `X.lora_linear_layer.down.weight` (diffusers of old).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from lcm_lora.combining.delta import COMPONENTS, Component, Module
from lcm_lora.combining.names import as_filed, from_kohya, is_module
from lcm_lora.errors import UserError, some

PartName = Literal["down", "up", "mid", "alpha"]


class Key(NamedTuple):
    """What a tensor is: a part of a module's factors."""

    module: Module
    part: PartName


_PARTS: dict[str, PartName] = {
    r"lora_down\.weight|lora_A(\.default)?\.weight|lora(_linear_layer)?\.down\.weight": "down",
    r"lora_up\.weight|lora_B(\.default)?\.weight|lora(_linear_layer)?\.up\.weight": "up",
    r"lora_mid\.weight": "mid",
    r"alpha|lora\.alpha": "alpha",
}
_PROCESSOR = re.compile(r"(.+)\.(to_[qkv]|to_out)_lora\.(down\.weight|up\.weight|alpha)")
"""Of diffusers before 0.22: attention's tensors without the names of its modules."""
_IN_TEXTS = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}

_OTHERS = {
    "DoRA": r"dora_scale|lora_magnitude_vector",
    "LoHa": r"\.hada_",
    "LoKr": r"\.lokr_",
    "OFT": r"\.(oft_|boft_)",
    "(IA)^3": r"\.(on_input|ia3_l)",
    "GLoRA": r"\.[ab][12]\.weight$",
    "a change of norms": r"\.[wb]_norm$",
    "a change of whole weights or biases": r"\.(diff|diff_b|bias)$|\.bias_(indices|values|size)$",
    "a LoRA of embeddings": r"\.lora_embedding_[AB]|embedding\.lora_",
    "an embedding or hypernetwork": r"^(emb_params|string_to_param|bundle_emb|clip_[lg]$)",
}
"""What is no plain sum of factors, by what its tensors' names have."""


def parse(name: str) -> Key | None:
    """Return what a tensor is by its name; None if it is of no LoRA of a Stable Diffusion."""
    if processor := _PROCESSOR.fullmatch(name):
        return _of_processor(*processor.groups())
    for pattern, part in _PARTS.items():
        if found := re.fullmatch(rf"(.+?)\.(?:{pattern})", name):
            module = _module(found[1])
            return Key(module, part) if module else None
    return None


def parse_all(where: str, names: Iterable[str]) -> dict[str, Key]:
    """Return what each tensor of an adapter is, in the order of their names.

    Args:
        where: What a message begins with, such as the adapter's file.
        names: Of its tensors.

    Raises:
        UserError: Some are of no LoRA of a Stable Diffusion: of which other kind is said.
    """
    keys: dict[str, Key] = {}
    others: dict[str, list[str]] = {}
    for name in sorted(names):
        if key := parse(name):
            keys[name] = key
        else:
            others.setdefault(other_kind(name) or "", []).append(name)
    if others:
        kind = max(others)  # one that has a name, if any has
        raise UserError(f"{where}: {_refusal(kind, others[kind])}")
    return keys


def _refusal(kind: str, names: list[str]) -> str:
    if kind:
        return (
            f"holds {kind}, which no sum of LoRAs can hold ({some(names)}); leave it out, or merge "
            "it into its base with the program that made it"
        )
    return (
        f"holds tensors that are of no LoRA for a Stable Diffusion ({some(names)}); name the file "
        "of an adapter for SD-1.x, SD-2.x, SDXL or SSD-1B"
    )


def other_kind(name: str) -> str | None:
    """Return what kind of adapter, other than LoRA, a tensor is of by its name."""
    kinds = (kind for kind, pattern in _OTHERS.items() if re.search(pattern, name))
    return next(kinds, None)


def _of_processor(place: str, to: str, rest: str) -> Key | None:
    is_text = "self_attn" in place
    inner = _IN_TEXTS[to] if is_text else {"to_out": "to_out.0"}.get(to, to)
    module = _module(f"{place.removesuffix('.processor')}.{inner}")
    part: PartName = "alpha" if rest == "alpha" else "down" if rest.startswith("down") else "up"
    return Key(module, part) if module else None


def _module(text: str) -> Module | None:
    if text.startswith("lora_"):
        return from_kohya(text)
    component, name = _component(text.removeprefix("base_model.model."))
    name = as_filed(name.removeprefix("base_model.model."))
    return Module(component, name) if is_module(name) else None


def _component(name: str) -> tuple[Component, str]:
    for component in COMPONENTS:
        if name.startswith(f"{component}."):
            return component, name.removeprefix(f"{component}.")
    is_text = name.startswith(("text_model.", "encoder.layers."))
    return ("text_encoder" if is_text else "unet"), name
