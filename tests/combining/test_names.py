"""Names without dots get them back, for every module of every family."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from single_files import unet as originally_named
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from lcm_lora.combining.delta import Component, Module
from lcm_lora.combining.names import as_filed, from_kohya, is_module, kohya_name
from lcm_lora.families.family import FAMILIES, FamilyName

TABLES = Path(__file__).parents[1] / "tables"


def config_of(family: FamilyName, component: str) -> dict[str, Any]:
    path = FAMILIES[family].configs / component / "config.json"
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def unet_of(family: FamilyName) -> Any:
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(config_of(family, "unet"))


def adaptable(network: nn.Module) -> list[str]:
    return [n for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]


@pytest.mark.parametrize(
    ("family", "count"), [("sd1", 282), ("sd2", 282), ("sdxl", 794), ("ssd1b", 429)]
)
def test_every_module_of_a_unet(family: FamilyName, count: int) -> None:
    names = adaptable(unet_of(family))
    assert len(names) == count
    for name in names:
        module = Module("unet", name)
        assert is_module(name)
        assert from_kohya(f"lora_unet_{name.replace('.', '_')}") == module
        assert from_kohya(kohya_name(module, two_encoders=family != "sd1")) == module


@pytest.mark.parametrize("family", FAMILIES)
def test_every_module_of_a_unet_by_its_original_name(family: FamilyName) -> None:
    """As trainers of SDXL write them; the names are those that single files hold."""
    unet = unet_of(family)
    named = dict(zip(unet.state_dict(), originally_named(unet), strict=True))
    for name in adaptable(unet):
        original = named[f"{name}.weight"].removesuffix(".weight").replace(".", "_")
        assert from_kohya(f"lora_unet_{original}") == Module("unet", name)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_module_of_the_text_encoders(family: FamilyName) -> None:
    """The tables hold what sd-scripts (networks/lora.py) and ComfyUI (comfy/lora.py) look for."""
    is_xl = FAMILIES[family].is_xl
    named = {
        kohya_name(module, two_encoders=is_xl): module
        for component in (("text_encoder", "text_encoder_2") if is_xl else ("text_encoder",))
        for module in modules_of(component, config_of(family, component))
    }
    table = "texts_sdxl" if is_xl else f"texts_{family}"
    assert sorted(named) == (TABLES / f"{table}.txt").read_text().split()
    for name, module in named.items():
        assert from_kohya(name) == module


def modules_of(component: Component, config: dict[str, Any]) -> list[Module]:
    """Return the modules of a text encoder that an adapter may change."""
    kind = CLIPTextModelWithProjection if component == "text_encoder_2" else CLIPTextModel
    with torch.device("meta"):
        network = kind(CLIPTextConfig.from_dict(config))
    return [Module(component, as_filed(name)) for name in adaptable(network)]


@pytest.mark.parametrize(
    "name",
    [
        "lora_unet_double_blocks_0_img_attn_qkv",  # FLUX
        "lora_unet_joint_blocks_0_x_block_attn_qkv",  # SD 3
        "lora_te3_encoder_block_0_layer_0_SelfAttention_q",  # T5
        "lora_unet_",
        "lora_unet_conv_in_",
        "lora_unet_input_blocks_4_1_norm",
        "conv_in",
    ],
)
def test_names_of_other_models_are_none(name: str) -> None:
    assert from_kohya(name) is None


def test_a_letter_less_or_more_is_no_name() -> None:
    rng = random.Random(0)
    for name in ("mid_block_attentions_0_transformer_blocks_3_attn2_to_out_0", "down_blocks_0"):
        place = rng.randrange(len(name))
        assert from_kohya(f"lora_unet_{name[:place]}x{name[place:]}") is None
