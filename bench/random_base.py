"""A base of a family at its full published size, with random weights."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from lcm_lora.families.family import Family
from lcm_lora.families.loading import tokenizers

_TEXTS: dict[str, Any] = {
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
}


def write_base(family: Family, folder: Path) -> None:
    """Write the base as a diffusers folder: all but the autoencoder in bf16, half the file."""
    shutil.copytree(family.configs, folder)
    torch.manual_seed(0)
    vae = AutoencoderKL.from_config(AutoencoderKL.load_config(str(folder / "vae")))
    vae.save_pretrained(folder / "vae")
    with _drawn_in(torch.bfloat16):
        config = UNet2DConditionModel.load_config(str(folder / "unet"))
        unet = UNet2DConditionModel.from_config(config)
        unet.save_pretrained(folder / "unet", max_shard_size="100GB")
        del unet
        for part, text in _TEXTS.items():
            if (folder / part).is_dir():
                encoder = text(CLIPTextConfig.from_pretrained(str(folder / part)))
                encoder.save_pretrained(folder / part)
    for part, tokenizer in tokenizers(family, None).items():
        tokenizer.save_pretrained(folder / part)


@contextlib.contextmanager
def _drawn_in(dtype: torch.dtype) -> Iterator[None]:
    """Draw the weights of networks in `dtype` at once: there is no fp32 copy."""
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
