"""How far two adapters together do something else than each of them does alone.

Weights add up, and what a network says of them does not. With e(a, s) for the denoiser's output
under `a` times the acceleration and `s` times the style, the interference is

    e(a, s) - e(a, 0) - e(0, s) + e(0, 0),

which is zero where the effects of both add up. It is measured on real pictures with noise, at the
time steps at which the adapter is sampled.

Legend: B pictures, T time steps, C x h x w latents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lcm_lora.bases import Base
from lcm_lora.consistency.denoiser import Conditioning
from lcm_lora.consistency.schedule import schedule_of
from lcm_lora.data.encode import moments
from lcm_lora.evaluation.simultaneous import half_width
from lcm_lora.painting.paint import noise_of
from lcm_lora.painting.schedulers import scheduler_of
from lcm_lora.painting.studio import SharedBase
from lcm_lora.painting.subject import Subject, Weighted
from lcm_lora.seeing.image_sets import ImageSet

SHARES = (0.25, 0.5, 0.75, 1.0, 1.25)


@dataclass(frozen=True, slots=True)
class Meeting:
    """Two adapters at two weights at a time step; shares are means over pictures."""

    timestep: int
    acceleration: float
    style: float
    of_both: float
    """The interference beside the effect of both, e(a, s) - e(0, 0), in lengths."""
    of_both_low: float
    of_both_high: float
    of_style: float
    """Beside the effect of the style alone, e(0, s) - e(0, 0)."""
    of_style_low: float
    of_style_high: float
    of_acceleration: float
    of_acceleration_low: float
    of_acceleration_high: float


@dataclass(frozen=True, slots=True)
class Noisy:
    """What the denoiser is given: noisy latents float32 [T, B, C, h, w], and their captions."""

    timesteps: tuple[int, ...]
    latents: Tensor
    conditioning: Conditioning


def noisy(base: Base, images: ImageSet, lcm_config: dict[str, object] | None, seed: int) -> Noisy:
    """Return real pictures with the noise that painters start from.

    Args:
        base: With its own scheduler's schedule.
        images: B real pictures.
        lcm_config: Of the acceleration's scheduler, which names the time steps.
        seed: Of the noise.
    """
    config = dict(base.pipeline.scheduler.config)
    scheduler = scheduler_of("lcm", config, lcm_config)
    scheduler.set_timesteps(4)
    pixels = np.stack([np.asarray(images.decoded(*png)) for png in images.pngs()])
    clean = moments(base.vae, pixels)[0] * base.vae.config.scaling_factor
    generators = [noise_of(seed, 0, i) for i in range(len(pixels))]
    noise = torch.stack([torch.randn(clean.shape[1:], generator=g) for g in generators])
    side = pixels.shape[1]
    told = base.conditioning(
        list(images.captions), torch.tensor([[side, side, 0, 0, side, side]] * len(pixels))
    )
    timesteps, schedule = tuple(int(t) for t in scheduler.timesteps), schedule_of(config)
    levels = [torch.full((len(pixels),), t) for t in timesteps]
    latents = torch.stack([schedule.diffuse(clean, noise, t) for t in levels])
    return Noisy(timesteps, latents.to(base.device), told)


def interference(
    shared: SharedBase,
    acceleration: Subject,
    style: Weighted,
    given: Noisy,
    level: float,
    shares: tuple[float, ...] = SHARES,
) -> list[Meeting]:
    """Return how two adapters meet at all pairs of weights, at every time step.

    Args:
        shared: The base that both are put on.
        acceleration: With its one adapter.
        style: The other one.
        given: What the denoiser is given.
        level: Of every interval.
        shares: Weights of either that are paired.
    """
    (own,) = acceleration.adapters
    pairs = [(a, s) for a in (0.0, *shares) for s in (0.0, *shares)]
    said = {}
    for a, s in pairs:
        worn = (replace(own, weight=a * own.weight), replace(style, weight=s * style.weight))
        base = shared.worn_by(replace(acceleration, adapters=worn))
        said[a, s] = _said(base, given)
    return [
        meeting
        for a, s in pairs
        if a and s
        for meeting in _meetings(given.timesteps, (a, s), said, level)
    ]


@torch.inference_mode()
def _said(base: Base, given: Noisy) -> Tensor:
    """Return the denoiser's output, float64 [T, B, C * h * w]."""
    denoise, count = base.denoiser(base.unet), given.latents.shape[1]
    outputs = [
        denoise(z, torch.full((count,), t, device=base.device), given.conditioning)
        for t, z in zip(given.timesteps, given.latents, strict=True)
    ]
    return torch.stack(outputs).flatten(2).double().cpu()


def _meetings(
    timesteps: Sequence[int],
    pair: tuple[float, float],
    said: dict[tuple[float, float], Tensor],
    level: float,
) -> Iterator[Meeting]:
    a, s = pair
    nothing = said[0.0, 0.0]
    both, first, second = said[pair] - nothing, said[a, 0.0] - nothing, said[0.0, s] - nothing
    left = (both - first - second).norm(dim=-1)
    shares = [left / effect.norm(dim=-1) for effect in (both, second, first)]
    for place, timestep in enumerate(timesteps):
        ends = (x for share in shares for x in interval(share[place], level))
        yield Meeting(timestep, a, s, *ends)


def interval(values: Tensor, level: float) -> tuple[float, float, float]:
    """Return the mean of values [B], and the ends of its interval."""
    mean, error = values.mean().item(), values.std().item() / len(values) ** 0.5
    half = half_width(level) * error
    return mean, mean - half, mean + half
