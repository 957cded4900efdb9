"""The diffusers schedulers that samplers are, on a base's noise schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    TCDScheduler,
    UniPCMultistepScheduler,
)

from lcm_lora.params.generate import Sampler

_TRAILING = {"timestep_spacing": "trailing", "steps_offset": 0}
_OF_THE_GRID = ("original_inference_steps", "timestep_scaling")
"""What of an LCM scheduler is the adapter's; in all else the base goes before it."""


def scheduler_of(
    sampler: Sampler, config: Mapping[str, Any], lcm_config: Mapping[str, Any] | None = None
) -> Any:
    """Return a fresh scheduler.

    Classical solvers use trailing spacing: with the default, one step starts at t = 1 and decodes
    the raw noise. The grid of an adapter's scheduler comes from its recipe: it is the trained one.

    Args:
        sampler: Which.
        config: Of the base's own scheduler: its noise schedule and prediction type.
        lcm_config: Of an adapter's LCM scheduler; None is the published one, of 50 points.
    """
    match sampler:
        case "lcm":
            told = lcm_config or {}
            grid = {name: told[name] for name in _OF_THE_GRID if name in told}
            return LCMScheduler.from_config({**told, **config}, **grid)
        case "tcd":
            return TCDScheduler.from_config(config)
        case "ddim":
            return DDIMScheduler.from_config(config, **_TRAILING, clip_sample=False)
        case "dpmpp":
            return DPMSolverMultistepScheduler.from_config(config, **_TRAILING)
        case "unipc":
            return UniPCMultistepScheduler.from_config(config, **_TRAILING)
        case "euler":
            return EulerDiscreteScheduler.from_config(config, **_TRAILING)
