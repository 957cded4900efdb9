"""Tiny bases of every family, untrained: the structure of the published ones, a thousandth wide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from lcm_lora.families.family import FAMILIES, FamilyName
from lcm_lora.shapes import architecture
from lcm_lora.shapes.places import BASE

_DOWN = ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D")
_UP = ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")
_PLAIN: dict[str, Any] = {
    "block_out_channels": (8, 8, 16, 16),
    "attention_head_dim": 2,
    "cross_attention_dim": 16,
}
_XL: dict[str, Any] = {
    "block_out_channels": (8, 16, 16),
    "down_block_types": _DOWN,
    "up_block_types": _UP,
    "transformer_layers_per_block": (1, 2, 3),
    "attention_head_dim": (1, 2, 2),
    "cross_attention_dim": 16 + 24,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 24,
}
_UNETS: dict[FamilyName, dict[str, Any]] = {
    "sd1": _PLAIN,
    "sd2": _PLAIN | {"use_linear_projection": True},
    "sdxl": _XL,
    "ssd1b": _XL
    | {
        "mid_block_type": "UNetMidBlock2D",
        "transformer_layers_per_block": (1, (2, 2), (3, 3)),
        "reverse_transformer_layers_per_block": ((3, 3, 4), (2, 1, 1), 1),
    },
}


def tiny_pipeline(family: FamilyName, prediction_type: str = "epsilon") -> Any:
    """Return the tiny base of a family, the same one every time: 16 pixels, latents 8 x 8."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        # One that is made anew numbers its pieces otherwise in each process.
        words = CLIPTokenizer.from_pretrained(BASE / "tokenizer")
        unet = UNet2DConditionModel(sample_size=8, norm_num_groups=4, **_UNETS[family])
        parts: dict[str, Any] = {
            "vae": autoencoder(),
            "text_encoder": CLIPTextModel(_texts(words, 16)),
            "tokenizer": words,
            "unet": unet,
            "scheduler": DDIMScheduler.from_config(
                architecture.scheduler().config, prediction_type=prediction_type
            ),
        }
        if not FAMILIES[family].is_xl:
            return StableDiffusionPipeline(
                **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
            )
        second = CLIPTextModelWithProjection(_texts(words, 24))
        return StableDiffusionXLPipeline(**parts, text_encoder_2=second, tokenizer_2=words)


def autoencoder() -> AutoencoderKL:
    """Return a tiny autoencoder: 16 x 16 pixels to 8 x 8 latents of four channels."""
    return AutoencoderKL(
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=2,
        latent_channels=4,
        sample_size=16,
    )


def _texts(words: CLIPTokenizer, width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=width,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )


def save_configs(pipeline: Any, folder: Path) -> Path:
    """Write a pipeline's configuration and tokenizers, without weights."""
    pipeline.save_pretrained(folder)
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()
    return folder
