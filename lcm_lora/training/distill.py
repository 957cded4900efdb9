"""Distil, and write the adapter with all that is needed to use it and to make it again."""

from __future__ import annotations

from pathlib import Path

from diffusers import LCMScheduler

from lcm_lora.adapter import TARGETS, write_adapter
from lcm_lora.adapter_metadata import adapter_metadata
from lcm_lora.bases import Base
from lcm_lora.candidates import candidate_name
from lcm_lora.code import versions
from lcm_lora.consistency.schedule import solver_grid
from lcm_lora.data.batches import LatentCache
from lcm_lora.data.shard import INDEX
from lcm_lora.files import new_folder, sha256, write_bytes
from lcm_lora.hashes import Hashes
from lcm_lora.params.distill import Distill
from lcm_lora.params.hardware import Hardware
from lcm_lora.precision import DTYPES
from lcm_lora.recipe import (
    KOHYA,
    RECIPE,
    WEIGHTS,
    Recipe,
    RecipeBase,
    RecipeData,
    RecipeGrid,
    RecipeGuidance,
    RecipeLora,
    RecipeScheduler,
    Recommended,
)
from lcm_lora.records import write_record
from lcm_lora.training.curve import CURVE, curve_lines
from lcm_lora.training.loop import train
from lcm_lora.training.origin import ORIGIN, Origin
from lcm_lora.training.state import take_candidate


def distill(
    params: Distill,
    hardware: Hardware,
    base: Base,
    cache: Path,
    hashes: Hashes,
    checkpoints: Path,
    candidates: Path,
    training: Path,
    origin: Origin,
) -> None:
    """Distil `base` on the latents in `cache`; write the folders `candidates` and `training`.

    Each candidate is a whole adapter, and a function of what went in; who made them, `origin`, lies
    beside the curve.

    Raises:
        UserError: As `train` does.
    """
    latents = LatentCache(cache, hashes)
    cache_sha256 = sha256(cache / INDEX)
    state, store = train(params, hardware, base, latents, cache_sha256, checkpoints, origin)
    with new_folder(training) as made:
        write_bytes(made / CURVE, curve_lines(state.curve))
        write_record(made / ORIGIN, state.origin)
    data = RecipeData(
        shards_sha256=latents.index.shards_sha256,
        cache_sha256=cache_sha256,
        samples=len(latents),
    )
    metadata, dtype = adapter_metadata(base, params), DTYPES[params.export]
    with new_folder(candidates) as made:
        last = made / candidate_name(state.step)
        for step in [state.step, *(step for step in state.candidates if step != state.step)]:
            folder = made / candidate_name(step)
            folder.mkdir()
            if folder != last:
                take_candidate(state, step, store)
            write_adapter(base.unet, folder, dtype, metadata)
            write_record(folder / RECIPE, _recipe(params, hardware, base, data, step, folder))


def _recipe(
    params: Distill, hardware: Hardware, base: Base, data: RecipeData, step: int, adapter: Path
) -> Recipe:
    """Return how the adapter in the folder `adapter` was made and how it is to be sampled."""
    trained_on = base.pipeline.scheduler.config
    grid = solver_grid(trained_on.num_train_timesteps, params.grid)
    sampler = LCMScheduler.from_config(trained_on, original_inference_steps=params.grid)
    config = {name: value for name, value in sampler.config.items() if not name.startswith("_")}
    return Recipe(
        objective=params.objective,
        grid=RecipeGrid(points=params.grid, skip=grid.skip, timesteps=tuple(grid.points.tolist())),
        prediction_type=trained_on.prediction_type,
        scheduler=RecipeScheduler(**{"class": "LCMScheduler"}, config=config),
        recommended=Recommended(steps=(2, 4, 8), guidance=1.0),
        guidance=RecipeGuidance(**params.guidance.model_dump()),
        lora=RecipeLora(rank=params.rank, alpha=params.alpha, targets=TARGETS),
        base=RecipeBase(
            model=base.name,
            revision=base.found.commit,
            family=base.family.name,
            sha256=base.found.sha256,
            files=base.found.files,
            vae=base.found.vae,
            vae_revision=base.found.vae_commit,
        ),
        data=data,
        step=step,
        params=params.model_dump(mode="json"),
        hardware=hardware.model_dump(mode="json"),
        versions=versions(),
        weights_sha256=sha256(adapter / WEIGHTS),
        kohya_sha256=sha256(adapter / KOHYA),
    )
