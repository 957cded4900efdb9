"""The header of an adapter's file is what each reader of it looks for, and tells no secrets."""

import json

import pytest
import torch
from tiny_bases import tiny_pipeline

from lcm_lora.adapter_metadata import adapter_metadata
from lcm_lora.bases import Base
from lcm_lora.families.family import FamilyName
from lcm_lora.families.found import BaseInventory
from lcm_lora.families.structure import Structure
from lcm_lora.params.distill import Distill, Guidance


def base_of(family: FamilyName, predicts: str = "epsilon", model: str = "/home/me/mine") -> Base:
    structure = Structure(
        family=family,
        prediction_type=predicts,
        zero_snr=False,
        training_steps=1000,
        downsampling=2,
        latent_channels=4,
        unet_channels=4,
    )
    found = BaseInventory(
        model=model,
        commit="c" * 40 if model.startswith("team/") else None,
        files={},
        sha256="0",
        structure=structure,
        config=None,
        vae=None,
        vae_commit=None,
    )
    pipeline = tiny_pipeline(family, predicts)
    return Base(pipeline, found, torch.device("cpu"), torch.float32)


def header(base: Base, grid: int = 50) -> dict[str, str]:
    guidance = Guidance(convention="imagen", low=3, high=3)
    return adapter_metadata(
        base, Distill(steps=1, batch=1, guidance=guidance, rank=2, alpha=7, grid=grid)
    )


@pytest.mark.parametrize(
    ("family", "predicts", "version", "is_v2", "architecture"),
    [
        ("sd1", "epsilon", "sd_v1", "False", "stable-diffusion-v1/lora"),
        ("sd1", "v_prediction", "sd_v1_v", "False", "stable-diffusion-v1/lora"),
        ("sd2", "epsilon", "sd_v2", "True", "stable-diffusion-v2-512/lora"),
        ("sd2", "v_prediction", "sd_v2_v", "True", "stable-diffusion-v2-768-v/lora"),
        ("sdxl", "epsilon", "sdxl_base_v1-0", "False", "stable-diffusion-xl-v1-base/lora"),
        ("ssd1b", "epsilon", "sdxl_base_v1-0", "False", "stable-diffusion-xl-v1-base/lora"),
    ],
)
def test_every_family_is_named_as_readers_know_it(
    family: FamilyName, predicts: str, version: str, is_v2: str, architecture: str
) -> None:
    made = header(base_of(family, predicts))
    assert made["ss_base_model_version"] == version
    assert made["ss_v2"] == is_v2
    assert made["modelspec.architecture"] == architecture
    assert made["modelspec.prediction_type"] == ("v" if predicts == "v_prediction" else "epsilon")


def test_it_says_how_the_network_was_made_and_how_it_is_used() -> None:
    made = header(base_of("sd1"))
    assert (made["ss_network_module"], made["ss_network_dim"]) == ("networks.lora", "2")
    assert made["ss_network_alpha"] == "7"
    assert json.loads(made["ss_network_args"]) == {"conv_dim": "2", "conv_alpha": "7"}
    assert made["modelspec.resolution"] == "16x16"
    assert made["modelspec.usage_hint"].startswith("No trigger word. LCM sampler, 2 to 8 steps")
    # diffusers raises where the names carry alphas and this is there too.
    assert "lora_adapter_metadata" not in made


def test_a_grid_that_uis_do_not_have_is_said() -> None:
    assert "fixed grid of 50" not in header(base_of("sd1"))["modelspec.usage_hint"]
    hint = header(base_of("sd1"), grid=100)["modelspec.usage_hint"]
    assert "grid of 100 points" in hint
    assert "ComfyUI" in hint


def test_it_tells_no_place_and_is_the_same_every_time() -> None:
    made = header(base_of("sd1"))
    assert made["modelspec.title"] == "LCM-LoRA for mine"
    assert made == header(base_of("sd1"))
    assert not any("/home" in value for value in made.values())
    assert header(base_of("sd1", model="team/mine"))["modelspec.title"] == "LCM-LoRA for team/mine"
