"""Paint pictures: every painter starts picture i from the same noise.

Picture i starts from noise that is a function of (seed, set of noises, i) alone, and draws whatever
else its sampler needs from the same generator. So cells can be compared picture by picture, and no
picture depends on the batch it was made in.

Legend: B pictures, H x W pixels, C x h x w latents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lcm_lora.bases import Base
from lcm_lora.errors import UserError
from lcm_lora.params.generate import Cell

_PIXELS_AT_ONCE = 512 * 512
"""Pixels that are decoded together: in fp32 a picture of 512 pixels takes gigabytes."""


def paint(
    base: Base,
    captions: Sequence[str],
    cell: Cell,
    size: int,
    seed: int,
    first: int = 0,
    eta: float = 0.0,
    after_step: Callable[..., dict[str, Any]] | None = None,
    negative: str | None = None,
) -> NDArray[np.uint8]:
    """Return pictures of B captions, uint8 [B, H, W, 3], with the base's present scheduler.

    Args:
        base: The model, with the adapters that it wears.
        captions: B texts.
        cell: Steps, guidance, set of noises.
        size: H = W.
        seed: Of all noise.
        first: Index of the first of these pictures among all.
        eta: Share of fresh noise in each step, where the scheduler takes one.
        after_step: As diffusers calls it after each step.
        negative: What guidance leads away from; it acts above 1 alone.

    Raises:
        UserError: A picture is not finite.
    """
    generators = [noise_of(seed, cell.seeds, first + i) for i in range(len(captions))]
    latents = base.pipeline(
        prompt=list(captions),
        negative_prompt=None if negative is None else [negative] * len(captions),
        height=size,
        width=size,
        latents=_noise(base, size, generators),
        generator=generators,
        num_inference_steps=cell.steps,
        guidance_scale=cell.guidance,
        eta=eta,
        output_type="latent",
        callback_on_step_end=after_step,
    ).images
    at_once = max(1, _PIXELS_AT_ONCE // size**2)
    return np.concatenate([decoded(base, part, cell) for part in latents.split(at_once)])


def noise_of(seed: int, seeds: int, index: int) -> torch.Generator:
    """Return picture `index`'s own generator, on the CPU so that every device draws the same.

    Of its 63 bits torch keeps the low 32 there: among 100,000 pictures about one pair is of the
    same noise.
    """
    state = np.random.SeedSequence((seed, seeds, index)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


@torch.inference_mode()
def decoded(base: Base, latents: torch.Tensor, cell: Cell) -> NDArray[np.uint8]:
    """Return the pictures of B latents, float32 [B, C, h, w], as uint8 [B, H, W, 3].

    Raises:
        UserError: A picture is not finite.
    """
    raw = base.vae.decode(latents / base.vae.config.scaling_factor, return_dict=False)[0]
    pictures = base.pipeline.image_processor.postprocess(raw, output_type="np")
    if not np.isfinite(pictures).all():
        raise UserError(
            f"generate: a picture of {cell.name} is not finite; set hardware.precision to fp32"
        )
    return np.asarray((pictures * 255).round().astype(np.uint8))


def _noise(base: Base, size: int, generators: list[torch.Generator]) -> torch.Tensor:
    side = size // base.downsampling
    shape = (base.unet.config.in_channels, side, side)
    noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
    return noise.to(base.device)
