"""The parts of the tiny Stable Diffusion and of the small CLIP, untrained.

Everything is a stock diffusers or transformers class, so that any tool that reads a Stable
Diffusion folder reads this one. Pictures have 32 pixels, latents 8 x 8 with 8 channels.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
)

from lcm_lora.shapes.scenes import PIXELS

TOKENS = 24
"""Longest tokenised caption; the text encoders keep Stable Diffusion's 77 positions."""

_START, _END = "<|startoftext|>", "<|endoftext|>"


def tokenizer(captions: Iterable[str]) -> CLIPTokenizer:
    """Return a CLIP tokenizer whose byte-pair vocabulary holds each word of `captions` whole."""
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    # Given as they are, else the trainer numbers them as they come out of a hash table, which
    # decides between merges that are equally frequent.
    letters = [chr(c) for c in range(33, 127)]
    trainer = trainers.BpeTrainer(
        vocab_size=4096,
        min_frequency=1,
        show_progress=False,
        special_tokens=letters + [letter + "</w>" for letter in letters],
        end_of_word_suffix="</w>",
    )
    learner.train_from_iterator(captions, trainer)
    learned = json.loads(learner.to_str())["model"]
    pieces = sorted(learned["vocab"], key=learned["vocab"].__getitem__)
    # The end token has the highest id: text encoders of Stable Diffusion's age pool at the maximum.
    vocab = {piece: i for i, piece in enumerate([*pieces, _START, _END])}
    merges = [tuple(pair) for pair in learned["merges"]]
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=TOKENS, pad_token=_END)


def _text_config(words: CLIPTokenizer, width: int, projection: int) -> dict[str, object]:
    return {
        "vocab_size": len(words),
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 77,
        "projection_dim": projection,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }


def text_encoder(words: CLIPTokenizer) -> CLIPTextModel:
    """Return the text encoder of the tiny Stable Diffusion: 128 wide, three layers."""
    return CLIPTextModel(CLIPTextConfig(**_text_config(words, 128, 128)))


def autoencoder() -> AutoencoderKL:
    """Return the autoencoder: 32 x 32 x 3 to 8 x 8 x 8 and back."""
    return AutoencoderKL(
        sample_size=PIXELS,
        latent_channels=8,
        block_out_channels=(32, 64, 96),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=8,
    )


def unet() -> UNet2DConditionModel:
    """Return the denoiser, 5.4 million parameters with attention at 8 x 8 and 4 x 4."""
    return UNet2DConditionModel(
        sample_size=PIXELS // 4,
        in_channels=8,
        out_channels=8,
        block_out_channels=(96, 128),
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        layers_per_block=1,
        attention_head_dim=(3, 4),  # diffusers' name for the number of heads
        cross_attention_dim=128,
        norm_num_groups=16,
    )


def scheduler() -> DDIMScheduler:
    """Return Stable Diffusion's noise schedule."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def clip(words: CLIPTokenizer) -> CLIPModel:
    """Return the scoring CLIP: a vision transformer of 64 patches and a text tower of its own."""
    vision = CLIPVisionConfig(
        image_size=PIXELS,
        patch_size=4,
        hidden_size=96,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        projection_dim=64,
    )
    text = CLIPTextConfig(**_text_config(words, 96, 64))
    return CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=64)
    )
