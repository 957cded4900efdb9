"""What a training leaves: its curve, and adapters with all that it takes to use and remake them."""

from __future__ import annotations

from pathlib import Path

from diffusers import LCMScheduler

from lcm_lora.adapter import TARGETS, write_adapter
from lcm_lora.adapter_files import KOHYA, RECIPE, WEIGHTS
from lcm_lora.adapter_metadata import adapter_metadata
from lcm_lora.bases import Base
from lcm_lora.candidates import candidate_name
from lcm_lora.code import versions
from lcm_lora.consistency.schedule import solver_grid
from lcm_lora.families.found import BaseInventory
from lcm_lora.files import new_folder, sha256, write_bytes
from lcm_lora.params.distill import Distill
from lcm_lora.params.hardware import Hardware
from lcm_lora.precision import DTYPES
from lcm_lora.recipe import (
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
from lcm_lora.store import Store
from lcm_lora.training.curve import CURVE, curve_lines
from lcm_lora.training.origin import ORIGIN
from lcm_lora.training.state import State, take_candidate


def write_training(state: State, out: Path) -> None:
    """Write the curve, and who made the last step, to the folder `out`."""
    with new_folder(out) as made:
        write_bytes(made / CURVE, curve_lines(state.curve))
        write_record(made / ORIGIN, state.origin)


def write_candidates(
    params: Distill,
    hardware: Hardware,
    base: Base,
    state: State,
    store: Store,
    data: RecipeData,
    out: Path,
) -> None:
    """Write each candidate as a whole adapter, a function of what went in, below the folder `out`.

    Args:
        params: Of the distillation.
        hardware: Where it was made.
        base: Holds the adapter of the last step; gets those of others.
        state: At the end of the run.
        store: Holds the weights of the candidates along the way.
        data: What was trained on.
        out: Folder to write.
    """
    metadata = adapter_metadata(base, params)
    with new_folder(out) as made:
        # The last first: its weights are in the base, until those of others take their place.
        kept = filter(params.candidates.at, state.candidates)
        for step in sorted({*kept, state.step}, reverse=True):
            if step != state.step:
                take_candidate(state, step, store)
            folder = made / candidate_name(step)
            folder.mkdir()
            write_adapter(base.unet, folder, DTYPES[params.export], metadata)
            write_record(folder / RECIPE, _recipe(params, hardware, base, data, step, folder))


def _config(found: BaseInventory) -> str | None:
    """Return the configuration folder that the parameters name, if diffusers can read it alone."""
    needed = ("model_index.json", "tokenizer")
    is_whole = found.config and all((Path(found.config) / name).exists() for name in needed)
    return found.config if is_whole else None


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
            config=_config(base.found),
            vae=base.found.vae,
            vae_revision=base.found.vae_commit,
        ),
        data=data,
        step=step,
        params=params.model_dump(mode="json", exclude={"checkpoints", "processes"}),
        hardware=hardware.model_dump(mode="json"),
        versions=versions(),
        weights_sha256=sha256(adapter / WEIGHTS),
        kohya_sha256=sha256(adapter / KOHYA),
    )
