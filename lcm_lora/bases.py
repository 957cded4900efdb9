"""Load a base model, from a hub id, a folder or a single file, into its frozen parts.

Legend: B captions, L tokens, D width of a text embedding, P width of a pooled embedding.
"""

from __future__ import annotations

import hashlib
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
from lcm_lora.errors import UserError
from lcm_lora.params import Base as BaseParams
from lcm_lora.params import Hardware

SHAPES = Path(__file__).parent / "shapes" / "weights" / "base"

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Base:
    """A frozen Stable Diffusion on its device, as the diffusers pipeline that holds its parts."""

    pipeline: StableDiffusionPipeline | StableDiffusionXLPipeline
    name: str
    revision: str | None
    device: torch.device
    dtype: torch.dtype

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

    @torch.inference_mode()
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

    def fingerprint(self) -> str:
        """Return a SHA-256 over the denoiser's weights, which an adapter must be used with."""
        digest = hashlib.sha256()
        weights = {
            name.replace(".base_layer", ""): value  # PEFT's name for an adapted layer
            for name, value in self.unet.state_dict().items()
            if ".lora_" not in name
        }
        for name, value in sorted(weights.items()):
            digest.update(name.encode())
            flat = value.detach().cpu().contiguous().flatten()
            digest.update(flat.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def load_base(params: BaseParams, hardware: Hardware) -> Base:
    """Load the base that the parameters name, frozen and in evaluation mode.

    Raises:
        UserError: There is no such base, it is no Stable Diffusion, or it is a pickle.
    """
    device, dtype = pick_device(hardware), _DTYPES[hardware.precision]
    disable_progress_bar()
    try:
        pipeline = _read(params, dtype)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"base.model {params.model}: cannot be loaded: {reason}") from error
    if not isinstance(pipeline, StableDiffusionPipeline | StableDiffusionXLPipeline):
        found = type(pipeline).__name__
        raise UserError(f"base.model {params.model}: is a {found}, not a Stable Diffusion or SDXL")
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    pipeline.to(device)
    return Base(pipeline, params.model, params.revision, device, dtype)


def _read(params: BaseParams, dtype: torch.dtype) -> Any:
    path = SHAPES if params.model == "shapes" else Path(params.model)
    if path.suffix in {".ckpt", ".pt", ".pth", ".bin"}:
        raise UserError(f"base.model {path}: pickled weights are refused; convert to safetensors")
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise UserError(f"base.model {path}: no such file")
        return _read_single_file(path, dtype)
    source = str(path) if path.is_dir() else params.model
    return DiffusionPipeline.from_pretrained(
        source,
        revision=params.revision,
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
