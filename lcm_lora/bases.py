"""Load a base model, from a hub id, a folder or a single file, into its frozen parts.

Legend: B captions, L tokens, D width of a text embedding, P width of a pooled embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from diffusers.utils.logging import disable_progress_bar
from safetensors import safe_open
from torch import Tensor

from lcm_lora.device import pick_device
from lcm_lora.errors import UserError, reason
from lcm_lora.model_files import ModelInventory
from lcm_lora.params.hardware import Hardware
from lcm_lora.shapes import places

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Base:
    """A frozen Stable Diffusion on its device, as the diffusers pipeline that holds its parts."""

    pipeline: StableDiffusionPipeline | StableDiffusionXLPipeline
    found: ModelInventory
    """Its files, as the first look found them."""
    device: torch.device
    dtype: torch.dtype

    @property
    def name(self) -> str:
        """The base as the parameters name it."""
        return self.found.model

    @property
    def kind(self) -> Literal["sd", "sdxl"]:
        """Which family the base is of; SDXL takes pooled embeddings and sizes besides."""
        return "sdxl" if isinstance(self.pipeline, StableDiffusionXLPipeline) else "sd"

    @property
    def vae(self) -> AutoencoderKL:
        """The autoencoder."""
        return self.pipeline.vae

    @property
    def unet(self) -> Any:
        """The denoiser."""
        return self.pipeline.unet

    @property
    def downsampling(self) -> int:
        """Pixels of a picture's side for each of its latent's."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @torch.no_grad()
    def embed(self, captions: list[str]) -> dict[str, Tensor]:
        """Return `prompt_embeds` [B, L, D] of captions, and for SDXL `pooled` [B, P]."""
        if self.kind == "sdxl":
            embeds, _, pooled, _ = self.pipeline.encode_prompt(
                captions, device=self.device, do_classifier_free_guidance=False
            )
            return {"prompt_embeds": embeds, "pooled": pooled}
        embeds, _ = self.pipeline.encode_prompt(
            captions, self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return {"prompt_embeds": embeds}

    def embed_empty(self) -> dict[str, Tensor]:
        """Return the unconditional branch, B = 1: the empty caption, or zeros where SDXL says so.

        Source: `force_zeros_for_empty_prompt` in the configuration of SDXL pipelines.
        """
        empty = self.embed([""])
        if self.kind == "sdxl" and self.pipeline.config.force_zeros_for_empty_prompt:
            return {name: torch.zeros_like(value) for name, value in empty.items()}
        return empty


def load_base(found: ModelInventory, hardware: Hardware, number: int = 0) -> Base:
    """Load the base that the first look found, frozen and in evaluation mode.

    Args:
        found: Which one.
        hardware: Where it computes, and in which precision.
        number: Which process of several this is; they take the GPUs in turn.

    Raises:
        UserError: It cannot be loaded, or is no Stable Diffusion.
    """
    device, dtype = pick_device(hardware, number), _DTYPES[hardware.precision]
    disable_progress_bar()
    try:
        pipeline = _read(found, dtype)
    except Exception as error:  # there is no end to what parsers raise of a broken file
        raise UserError(
            f"base.model {found.model}: cannot be loaded ({reason(error)}); mend its files, or name"
            " another base"
        ) from error
    if not isinstance(pipeline, StableDiffusionPipeline | StableDiffusionXLPipeline):
        kind = type(pipeline).__name__
        raise UserError(
            f"base.model {found.model}: is a {kind}; name a Stable Diffusion or SDXL instead"
        )
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    pipeline.to(device)
    return Base(pipeline, found, device, dtype)


def _read(found: ModelInventory, dtype: torch.dtype) -> Any:
    path = places.BASE if found.model == "shapes" else Path(found.model)
    if path.suffix == ".safetensors":
        return _read_single_file(path, dtype)
    source = str(path) if path.is_dir() else found.model
    return DiffusionPipeline.from_pretrained(
        source,
        revision=found.commit,
        dtype=dtype,
        use_safetensors=True,
        safety_checker=None,
        requires_safety_checker=False,
    )


def _read_single_file(path: Path, dtype: torch.dtype) -> Any:
    with safe_open(path, framework="pt") as weights:
        is_sdxl = any(name.startswith("conditioner.embedders.1.") for name in list(weights.keys()))
    family = StableDiffusionXLPipeline if is_sdxl else StableDiffusionPipeline
    return family.from_single_file(str(path), dtype=dtype)
