"""Distil, and write the adapter with all that is needed to use it and to make it again."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

from diffusers import LCMScheduler

from lcm_lora.adapter import TARGETS, write_adapter
from lcm_lora.bases import Base
from lcm_lora.consistency.schedule import solver_grid
from lcm_lora.data.batches import LatentCache
from lcm_lora.files import new_folder, write_bytes, write_json
from lcm_lora.params import Distill, Hardware
from lcm_lora.training.loop import curve_lines, train


def distill(
    params: Distill,
    hardware: Hardware,
    base: Base,
    cache: Path,
    checkpoints: Path,
    adapter: Path,
    training: Path,
    git_commit: str,
) -> None:
    """Distil `base` on the latents in `cache`; write the folders `adapter` and `training`.

    Raises:
        UserError: As `train` does.
    """
    latents, curve = train(params, hardware, base, cache, checkpoints)
    with new_folder(training) as made:
        write_bytes(made / "curve.jsonl", curve_lines(curve))
    with new_folder(adapter) as made:
        write_adapter(base.unet, made, base.dtype)
        write_json(made / "recipe.json", recipe(params, hardware, base, latents, git_commit))


def recipe(
    params: Distill, hardware: Hardware, base: Base, latents: LatentCache, git_commit: str
) -> dict[str, Any]:
    """Return how the adapter was made and how it is to be sampled."""
    trained_on = base.pipeline.scheduler.config
    grid = solver_grid(trained_on.num_train_timesteps, params.grid)
    sampler = LCMScheduler.from_config(trained_on, original_inference_steps=params.grid)
    config = {name: value for name, value in sampler.config.items() if not name.startswith("_")}
    return {
        "objective": params.objective,
        "grid": {"points": params.grid, "skip": grid.skip, "timesteps": grid.points.tolist()},
        "prediction_type": trained_on.prediction_type,
        "scheduler": {"class": "LCMScheduler", "config": config},
        "recommended": {"steps": [2, 4, 8], "guidance": 1.0},
        "guidance": params.guidance.model_dump(),
        "lora": {"rank": params.rank, "alpha": params.alpha, "targets": list(TARGETS)},
        "base": {
            "model": base.name,
            "revision": base.revision,
            "kind": base.kind,
            "sha256": base.fingerprint(),
        },
        "data": {"shards_sha256": latents.shards_sha256, "samples": len(latents)},
        "params": params.model_dump(mode="json"),
        "hardware": hardware.model_dump(mode="json"),
        "git_commit": git_commit,
        "versions": {
            name: importlib.metadata.version(name) for name in ("torch", "diffusers", "peft")
        },
    }
