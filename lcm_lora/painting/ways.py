"""Every way of painting that diffusers has, with a base and the adapters that it wears.

A way is a pipeline of diffusers' own around the base's own parts: no weight is copied, and what the
base wears acts in all of them. They are built of the parts, not by `from_pipe`, which would cast
them all to one dtype.

Legend: H x W pixels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Literal

import diffusers
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lcm_lora.bases import Base
from lcm_lora.painting.paint import decoded, noise_of
from lcm_lora.painting.start import Start
from lcm_lora.params.generate import Cell

Way = Literal["picture", "mask", "control"]
"""From a picture, under a mask, and led by a ControlNet; the base's own pipeline is from text."""

_PIPELINES: dict[Way, tuple[str, str]] = {
    "picture": ("StableDiffusionImg2ImgPipeline", "StableDiffusionXLImg2ImgPipeline"),
    "mask": ("StableDiffusionInpaintPipeline", "StableDiffusionXLInpaintPipeline"),
    "control": ("StableDiffusionControlNetPipeline", "StableDiffusionXLControlNetPipeline"),
}
"""Of one text encoder, and of two."""

_SETTINGS = ("requires_safety_checker", "force_zeros_for_empty_prompt")
"""What of a pipeline's configuration decides pictures and is none of its parts."""


def pipeline_of(base: Base, way: Way, **more: Any) -> Any:
    """Return the diffusers pipeline of a way, around the base's parts and present scheduler.

    Args:
        base: The model, with the adapters that it wears, now or later.
        way: Which.
        more: Parts that the base lacks: `controlnet`.
    """
    settings = {
        name: base.pipeline.config[name] for name in _SETTINGS if name in base.pipeline.config
    }
    made = getattr(diffusers, _PIPELINES[way][base.family.is_xl])(
        **base.pipeline.components, **settings, **more
    )
    made.set_progress_bar_config(disable=True)
    return made


def paint_over(
    base: Base,
    prompt: str,
    cell: Cell,
    seed: int,
    start: Start,
    eta: float = 0.0,
    after_step: Callable[..., dict[str, Any]] | None = None,
    negative: str | None = None,
) -> NDArray[np.uint8]:
    """Return a picture painted over another, uint8 [H, W, 3], with the base's present scheduler.

    What a mask keeps is the picture's own, bit for bit.

    Args:
        base: The model, with the adapters that it wears.
        prompt: What the picture shows.
        cell: Steps, guidance, set of noises; strength leaves out the first of the steps.
        seed: Of all noise. The autoencoder draws from it first, where it encodes the picture, so
            the noise of steps is another than that of pictures from text.
        start: What is painted over.
        eta: Share of fresh noise in each step, where the scheduler takes one.
        after_step: As diffusers calls it after each step.
        negative: What guidance leads away from; it acts above 1 alone.

    Raises:
        UserError: The picture is not finite.
    """
    way: Way = "picture" if start.mask is None else "mask"
    with _blending(base.unet) if start.mask else contextlib.nullcontext():
        latents = pipeline_of(base, way)(
            prompt=[prompt],
            negative_prompt=None if negative is None else [negative],
            image=start.picture,
            strength=start.strength,
            generator=[noise_of(seed, cell.seeds, 0)],
            num_inference_steps=cell.steps,
            guidance_scale=cell.guidance,
            eta=eta,
            output_type="latent",
            callback_on_step_end=after_step,
            **_under(start),
        ).images
    (painted,) = decoded(base, latents, cell)
    return _kept(painted, start)


def _under(start: Start) -> dict[str, Any]:
    """Return what inpainting is told besides."""
    if start.mask is None:
        return {}
    width, height = start.picture.size
    return {"mask_image": start.mask, "height": height, "width": width}


def _kept(painted: NDArray[np.uint8], start: Start) -> NDArray[np.uint8]:
    """Return the picture with what the mask keeps put back: the autoencoder alters it slightly."""
    if start.mask is None:
        return painted
    covered = start.mask.point([0] * 128 + [255] * 128)
    return np.asarray(Image.composite(Image.fromarray(painted), start.picture, covered))


@contextlib.contextmanager
def _blending(unet: Any) -> Iterator[None]:
    """Let diffusers inpaint with a denoiser whose latents have other than 4 channels.

    It blends kept and painted latents whatever their channels, but asks for 4 to tell such a
    denoiser from those that are told the mask.
    """
    channels = unet.config.in_channels
    unet.register_to_config(in_channels=4)
    try:
        yield
    finally:
        unet.register_to_config(in_channels=channels)
