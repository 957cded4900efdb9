"""Whether a LoRA has a place in a base: every module that it names is there, in its shape."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lcm_lora.combining.delta import Component, Lora, Module, bare
from lcm_lora.errors import UserError, some
from lcm_lora.families.family import FAMILIES
from lcm_lora.families.found import BaseInventory
from lcm_lora.inventory.base_files import where_is

_TEXTS = "text_model."
"""What files begin the names in text encoders with, and transformers has no more."""


def check_fits(where: str, lora: Lora, base: BaseInventory) -> None:
    """Check that a LoRA can be put on a base, by the base's configuration alone.

    Args:
        where: What a message begins with, such as the LoRA's file.
        lora: What is to be put on.
        base: As the first look found it.

    Raises:
        UserError: It names modules that the base has not, or has in other shapes.
    """
    known = dict(_shapes(where_is(base).configs, FAMILIES[base.structure.family].is_xl))
    odd = [module for module, factor in lora.items() if known.get(module) != bare(factor.shape)]
    if odd:
        title = FAMILIES[base.structure.family].title
        raise UserError(
            f"{where}: does not fit {base.model}, {title}, which has no such {some(odd)}; name an "
            "adapter for this family"
        )


def _shapes(configs: Path, is_xl: bool) -> Iterator[tuple[Module, tuple[int, ...]]]:
    """Yield the shape of every weight that an adapter may be added to; nothing of it is made."""
    import torch

    with torch.device("meta"):
        networks = _networks(configs, is_xl)
    for component, network in networks.items():
        for name, weight in network.named_parameters():
            module, _, kind = name.removeprefix(_TEXTS).rpartition(".")
            if kind == "weight":
                prefix = "" if component == "unet" else _TEXTS
                yield Module(component, prefix + module), bare(weight.shape)


def _networks(configs: Path, is_xl: bool) -> dict[Component, Any]:
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    def texts(name: str) -> CLIPTextConfig:
        return CLIPTextConfig.from_pretrained(configs / name)

    networks: dict[Component, Any] = {
        "unet": UNet2DConditionModel.from_config(
            UNet2DConditionModel.load_config(configs / "unet")
        ),
        "text_encoder": CLIPTextModel(texts("text_encoder")),
    }
    if is_xl:
        networks["text_encoder_2"] = CLIPTextModelWithProjection(texts("text_encoder_2"))
    return networks
