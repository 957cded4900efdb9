"""Load a base model, from a hub id, a folder or a single file, into its frozen parts.

Only the denoiser computes in the precision that the parameters name; all else is fp32, since the
autoencoder of SDXL overflows in fp16, and what the text encoders say sets the dtype of the sizes
and of the scheduler in diffusers' pipelines.

Legend: B captions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.utils import logging as diffusers_logging
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from lcm_lora.consistency.denoiser import Conditioning, Denoiser
from lcm_lora.device import pick_device
from lcm_lora.errors import UserError, is_out_of_memory, reason
from lcm_lora.families.conditioning import Conditioner, conditioner_of
from lcm_lora.families.family import FAMILIES, Family
from lcm_lora.families.found import BaseInventory
from lcm_lora.families.loading import load_pipeline
from lcm_lora.inventory.base_files import where_is
from lcm_lora.params.hardware import Hardware
from lcm_lora.precision import DTYPES, compute_in


@dataclass(frozen=True, slots=True)
class Base:
    """A frozen Stable Diffusion on its device, as the diffusers pipeline that holds its parts."""

    pipeline: StableDiffusionPipeline | StableDiffusionXLPipeline
    found: BaseInventory
    """What it is, and its files, as the first look found them."""
    device: torch.device
    dtype: torch.dtype
    """In which the denoiser computes; it takes and gives float32."""

    @property
    def name(self) -> str:
        """The base as the parameters name it."""
        return self.found.model

    @property
    def family(self) -> Family:
        """The line of models that it is of."""
        return FAMILIES[self.found.structure.family]

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
        return self.found.structure.downsampling

    @torch.no_grad()
    def conditioning(self, captions: list[str], time_ids: Tensor) -> Conditioning:
        """Return what the denoiser is told of B captions, float32 on the base's device.

        Args:
            captions: B texts.
            time_ids: Sizes in pixels, [B, 6]: height and width of the original, top and left of the
                crop, height and width of the target. Only SDXL and its kin are told them.
        """
        return self._conditioner.embed(self.pipeline, captions, time_ids.float().to(self.device))

    @torch.no_grad()
    def unconditional(self) -> Conditioning:
        """Return the unconditional branch, B = 1; what it lacks is as in the conditional one."""
        return self._conditioner.unconditional(self.pipeline)

    def denoiser(self, unet: nn.Module) -> Denoiser:
        """Return the base's UNet, or what wraps it, as a function in float32."""
        told = self._conditioner.told

        def denoise(z: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
            output: Tensor = unet(z, timesteps, **told(conditioning), return_dict=False)[0]
            return output

        return denoise

    @property
    def _conditioner(self) -> Conditioner:
        return conditioner_of(self.family)


def load_base(found: BaseInventory, hardware: Hardware, number: int = 0) -> Base:
    """Load the base that the first look found, frozen and in evaluation mode.

    Args:
        found: Which one.
        hardware: Where it computes, and in which precision.
        number: Which process of several this is; they take the GPUs in turn.

    Raises:
        UserError: It cannot be loaded.
    """
    device, dtype = pick_device(hardware, number), DTYPES[hardware.precision]
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    files = where_is(found)
    try:
        pipeline = load_pipeline(found, files, dtype)
    except Exception as error:  # there is no end to what parsers raise of a broken file
        if is_out_of_memory(error):
            raise
        raise UserError(
            f"base.model {found.model}: cannot be loaded ({reason(error)}); mend its files, or name"
            " another base"
        ) from error
    pipeline.to(device)
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    compute_in(pipeline.unet, dtype)
    return Base(pipeline, found, device, dtype)
