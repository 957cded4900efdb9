"""The header of an adapter's file: what UIs, trainers and model sites read of it.

Without `ss_base_model_version` WebUI hides an adapter beside the checkpoints that it is made for.
Nothing here names a date, a place or a machine: the same adapter has the same bytes.

Sources: `ss_*` as kohya-ss/sd-scripts writes them (train_network.py, library/model_util.py),
`modelspec.*` as Stability-AI/ModelSpec 1.0.0 and its architectures in sd-scripts
(library/sai_model_spec.py).
"""

from __future__ import annotations

import json
from pathlib import PurePath

from lcm_lora.bases import Base
from lcm_lora.params.distill import Distill

_COMMON_GRID = 50
"""Points of the time grid that UIs' LCM sampling assumes, as the published LCM-LoRAs were made."""


def adapter_metadata(base: Base, params: Distill) -> dict[str, str]:
    """Return the header of an adapter that is distilled from `base` with `params`."""
    return _network(base, params) | {
        f"modelspec.{name}": value for name, value in _model_spec(base, params).items()
    }


def _network(base: Base, params: Distill) -> dict[str, str]:
    """Return what the loaders of kohya's names read."""
    rank, alpha = str(params.rank), str(params.alpha)
    return {
        "ss_base_model_version": _version(base),
        "ss_v2": str(base.family.name == "sd2"),
        "ss_network_module": "networks.lora",
        "ss_network_dim": rank,
        "ss_network_alpha": alpha,
        "ss_network_args": json.dumps({"conv_alpha": alpha, "conv_dim": rank}),
    }


def _model_spec(base: Base, params: Distill) -> dict[str, str]:
    predicts = base.found.structure.prediction_type
    return {
        "sai_model_spec": "1.0.0",
        "architecture": f"{_architecture(base)}/lora",
        "implementation": "diffusers",
        "title": f"LCM-LoRA for {_public_name(base)}",
        "prediction_type": "v" if predicts == "v_prediction" else predicts,
        "usage_hint": _usage(params.grid),
    } | _resolution(base)


def _resolution(base: Base) -> dict[str, str]:
    """Return the size of a picture, where the denoiser's configuration has one."""
    side = base.unet.config.sample_size
    if not isinstance(side, int):
        return {}
    return {"resolution": f"{side * base.downsampling}x{side * base.downsampling}"}


def _version(base: Base) -> str:
    if base.family.is_xl:
        return "sdxl_base_v1-0"  # SSD-1B too: every reader of it knows SDXL, none SSD-1B
    version = "sd_v2" if base.family.name == "sd2" else "sd_v1"
    return f"{version}_v" if _predicts_velocity(base) else version


def _architecture(base: Base) -> str:
    if base.family.is_xl:
        return "stable-diffusion-xl-v1-base"
    if base.family.name == "sd1":
        return "stable-diffusion-v1"
    return "stable-diffusion-v2-768-v" if _predicts_velocity(base) else "stable-diffusion-v2-512"


def _predicts_velocity(base: Base) -> bool:
    return base.found.structure.prediction_type == "v_prediction"


def _public_name(base: Base) -> str:
    """Return the base's name; of a path only its end, for the rest is nobody's business."""
    return base.name if base.found.commit else PurePath(base.name).name


def _usage(grid: int) -> str:
    usage = "No trigger word. LCM sampler, 2 to 8 steps, CFG scale 1 (guidance is baked in)."
    if grid != _COMMON_GRID:
        usage += (
            f" Trained on a time grid of {grid} points: a UI whose LCM sampling has a fixed grid of"
            f" {_COMMON_GRID}, as ComfyUI and WebUI, paints it off its grid; set"
            f" original_inference_steps={grid} where the sampler takes it."
        )
    return usage
