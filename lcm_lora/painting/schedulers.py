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


def scheduler_of(
    sampler: Sampler, config: Mapping[str, Any], lcm_config: Mapping[str, Any] | None = None
) -> Any:
    """Return a fresh scheduler.

    Classical solvers use trailing spacing: with the default, one step starts at t = 1 and decodes
    the raw noise. An adapter's scheduler comes from its recipe: its grid is the trained one.

    Args:
        sampler: Which.
        config: Of the base's own scheduler: its noise schedule and prediction type.
        lcm_config: Of an adapter's LCM scheduler; None is the published one, of 50 points.
    """
    match sampler:
        case "lcm":
            return LCMScheduler.from_config(lcm_config or config)
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
