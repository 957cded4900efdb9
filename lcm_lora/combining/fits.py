"""Whether a LoRA has a place in a base: every module that it names is there, in its shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lcm_lora.combining.delta import Component, Lora, Module, bare
from lcm_lora.combining.names import as_filed
from lcm_lora.errors import UserError, some
from lcm_lora.families.family import FAMILIES
from lcm_lora.families.found import BaseInventory
from lcm_lora.inventory.base_files import where_is

_WORN = ".base_layer"
"""What PEFT puts into the name of a weight beside which an adapter lies."""


def check_fits(where: str, lora: Lora, base: BaseInventory) -> None:
    """Check that a LoRA can be put on a base, by the base's configuration alone.

    Args:
        where: What a message begins with, such as the LoRA's file.
        lora: What is to be put on.
        base: As the first look found it.

    Raises:
        UserError: It names modules that the base has not, or has in other shapes.
    """
    import torch

    with torch.device("meta"):  # nothing of it is made
        networks = _networks(where_is(base).configs, FAMILIES[base.structure.family].is_xl)
    check_fits_networks(where, lora, networks, base)


def check_fits_networks(
    where: str, lora: Lora, networks: Mapping[Component, Any], base: BaseInventory
) -> None:
    """Check that a LoRA can be put on the networks of a base, whatever they wear already.

    Args:
        where: What a message begins with, such as the LoRA's file.
        lora: What is to be put on.
        networks: Of the base, loaded.
        base: Which one, for messages.

    Raises:
        UserError: It names modules that the networks have not, or have in other shapes.
    """
    known = dict(_shapes(networks))
    odd = [module for module, factor in lora.items() if known.get(module) != bare(factor.shape)]
    if odd:
        title = FAMILIES[base.structure.family].title
        raise UserError(
            f"{where}: does not fit {base.model}, {title}, which has no such {some(odd)}; name an "
            "adapter for this family"
        )


def _shapes(networks: Mapping[Component, Any]) -> Iterator[tuple[Module, tuple[int, ...]]]:
    """Yield the shape of every weight that an adapter may be added to."""
    for component, network in networks.items():
        for name, weight in network.named_parameters():
            module, _, kind = name.replace(_WORN, "").rpartition(".")
            if kind == "weight":
                yield Module(component, as_filed(module)), bare(weight.shape)


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
