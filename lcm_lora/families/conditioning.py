"""What a denoiser is told besides a noisy latent and its time, by family.

Legend: B captions, L tokens, D width of a text embedding, P width of a pooled embedding.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from lcm_lora.consistency.denoiser import Conditioning
from lcm_lora.families.family import Family


class Conditioner(Protocol):
    """How a family turns captions into conditioning, and conditioning into what its UNet takes."""

    def embed(self, pipeline: Any, captions: list[str], time_ids: Tensor) -> Conditioning:
        """Return float32 conditioning of B captions.

        Args:
            pipeline: The diffusers pipeline that holds the text encoders.
            captions: B texts.
            time_ids: Height and width of the original, top and left of the crop, height and width
                of the target, float32 [B, 6] on the pipeline's device.
        """

    def unconditional(self, pipeline: Any) -> Conditioning:
        """Return the unconditional branch, B = 1; what it lacks is as in the conditional one."""

    def told(self, conditioning: Conditioning) -> dict[str, Any]:
        """Return the keyword arguments of the UNet."""


def conditioner_of(family: Family) -> Conditioner:
    """Return how a family is told."""
    return _TwoEncoders() if family.is_xl else _OneEncoder()


class _OneEncoder:
    """SD-1.x and SD-2.x: `prompt_embeds` [B, L, D]."""

    def embed(self, pipeline: Any, captions: list[str], time_ids: Tensor) -> Conditioning:
        embeds, _ = pipeline.encode_prompt(
            captions, pipeline.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return {"prompt_embeds": embeds}

    def unconditional(self, pipeline: Any) -> Conditioning:
        return self.embed(pipeline, [""], torch.empty(0))

    def told(self, conditioning: Conditioning) -> dict[str, Any]:
        return {"encoder_hidden_states": conditioning["prompt_embeds"]}


class _TwoEncoders:
    """SDXL and its kin: `prompt_embeds` [B, L, D], `pooled` [B, P] and `time_ids` [B, 6]."""

    def embed(self, pipeline: Any, captions: list[str], time_ids: Tensor) -> Conditioning:
        return self._texts(pipeline, captions) | {"time_ids": time_ids}

    def unconditional(self, pipeline: Any) -> Conditioning:
        """Return the empty caption, or zeros where the pipeline's configuration says so.

        Source: `force_zeros_for_empty_prompt` in the configuration of SDXL pipelines.
        """
        empty = self._texts(pipeline, [""])
        if pipeline.config.force_zeros_for_empty_prompt:
            return {name: torch.zeros_like(value) for name, value in empty.items()}
        return empty

    def told(self, conditioning: Conditioning) -> dict[str, Any]:
        return {
            "encoder_hidden_states": conditioning["prompt_embeds"],
            "added_cond_kwargs": {
                "text_embeds": conditioning["pooled"],
                "time_ids": conditioning["time_ids"],
            },
        }

    def _texts(self, pipeline: Any, captions: list[str]) -> Conditioning:
        embeds, _, pooled, _ = pipeline.encode_prompt(
            captions, device=pipeline.device, do_classifier_free_guidance=False
        )
        return {"prompt_embeds": embeds, "pooled": pooled}
