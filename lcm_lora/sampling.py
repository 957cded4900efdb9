"""Make image sets: one sampler, one step count, one guidance, the same noise for every one of them.

Picture i starts from noise that is a function of (seed, set of noises, i) alone, and draws whatever
else its sampler needs from the same generator. So cells can be compared picture by picture, and no
picture depends on the batch it was made in.

Legend: B pictures, C x h x w latents.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    LCMScheduler,
    UniPCMultistepScheduler,
)
from numpy.typing import NDArray
from PIL import Image

from lcm_lora.bases import Base
from lcm_lora.data.picture_sets import PictureSet, read_set
from lcm_lora.data.shards import write_tar
from lcm_lora.errors import UserError
from lcm_lora.evaluation.image_sets import CAPTIONS, LATENCY, captions_sha256
from lcm_lora.evaluation.set_records import (
    Captions,
    Latency,
    SetLatency,
    SetRecord,
    SetScheduler,
)
from lcm_lora.files import new_folder, sha256
from lcm_lora.params.generate import Cell, Generate, Sampler
from lcm_lora.progress import Advance, progress
from lcm_lora.recipe import WEIGHTS, read_recipe
from lcm_lora.records import write_record

_LARGE = 512
"""Pixels of a side from which pictures are decoded one by one: in fp32 each takes gigabytes."""


def generate(
    params: Generate, sampler: Sampler, base: Base, evaluation: Path, adapter: Path, out: Path
) -> None:
    """Make every image set of `sampler` for the captions of the evaluation set.

    Args:
        params: Which cells, which seed.
        sampler: `lcm` loads `adapter`; the others use the base alone.
        base: Its pipeline gets the sampler's scheduler.
        evaluation: What `prepare` wrote.
        adapter: What `distill` wrote; read by `lcm` only.
        out: Folder to write.

    Raises:
        UserError: The evaluation set or the adapter is missing or damaged.
    """
    real = read_set(evaluation, "real")
    captions, size = list(real.captions), real.resolution
    if sampler == "lcm":
        load_adapter(base, adapter)
    cells = params.cells[sampler]
    latency = {}
    with (
        new_folder(out) as made,
        progress(f"generate {sampler}", len(cells) * len(captions), "pictures") as advance,
    ):
        write_record(made / CAPTIONS, Captions(captions=real.captions))
        for cell in cells:
            base.pipeline.scheduler = scheduler_of(sampler, base, adapter)
            started = time.perf_counter()
            pictures = paint(base, captions, cell, size, params.seed, params.batch, advance)
            tar = made / f"{cell.name}.tar"
            write_tar(tar, _as_png(pictures))
            seconds = time.perf_counter() - started
            write_record(tar.with_suffix(".json"), _record(sampler, cell, size, base, real, tar))
            latency[cell.name] = SetLatency(
                ms_per_image=round(1000 * seconds / len(captions), 3),
                device=str(base.device),
                batch=params.batch,
            )
        write_record(made / LATENCY, Latency(sets=latency))


def load_adapter(base: Base, adapter: Path) -> None:
    """Load the adapter in the folder `adapter` into the base's pipeline.

    Raises:
        UserError: It is missing, damaged, or was distilled from another base.
    """
    recipe = read_recipe(adapter)
    if recipe.base.sha256 != base.found.sha256:
        raise UserError(
            f"{adapter}: distilled from {recipe.base.model} ({recipe.base.sha256[:12]}), but the"
            f" base is {base.name} ({base.found.sha256[:12]}); run `lcm-lora distill`"
        )
    base.pipeline.load_lora_weights(str(adapter), weight_name=WEIGHTS, adapter_name="lcm")


def scheduler_of(sampler: Sampler, base: Base, adapter: Path) -> Any:
    """Return a fresh scheduler of `sampler`, on the base's noise schedule.

    Classical solvers use trailing spacing: with the default, one step starts at t = 1 and decodes
    the raw noise. The adapter's scheduler comes from its recipe: its grid is the trained one.
    """
    config = base.pipeline.scheduler.config
    trailing = {"timestep_spacing": "trailing", "steps_offset": 0}
    match sampler:
        case "lcm":
            return LCMScheduler.from_config(read_recipe(adapter).scheduler.config)
        case "teacher" | "ddim":
            return DDIMScheduler.from_config(config, **trailing, clip_sample=False)
        case "dpmpp":
            return DPMSolverMultistepScheduler.from_config(config, **trailing)
        case "unipc":
            return UniPCMultistepScheduler.from_config(config, **trailing)


def paint(
    base: Base,
    captions: list[str],
    cell: Cell,
    size: int,
    seed: int,
    batch: int,
    advance: Advance,
) -> Iterator[NDArray[np.uint8]]:
    """Yield the pictures of `captions`, uint8 [H, W, 3], with the base's present scheduler.

    Args:
        base: The model.
        captions: One a picture.
        cell: Steps, guidance, set of noises.
        size: H = W.
        seed: Of all noise.
        batch: B of one run of the model.
        advance: Told of every batch.
    """
    if size >= _LARGE:
        base.vae.enable_slicing()
    for first in range(0, len(captions), batch):
        part = captions[first : first + batch]
        generators = [_generator(seed, cell.seeds, first + offset) for offset in range(len(part))]
        images = base.pipeline(
            prompt=part,
            height=size,
            width=size,
            latents=_noise(base, size, generators),
            generator=generators,
            num_inference_steps=cell.steps,
            guidance_scale=cell.guidance,
            output_type="np",
        ).images
        if not np.isfinite(images).all():
            raise UserError(
                f"generate: a picture of {cell.name} is not finite; set hardware.precision to fp32"
            )
        advance(len(part), cell.name)
        yield from (images * 255).round().astype(np.uint8)


def _generator(seed: int, seeds: int, index: int) -> torch.Generator:
    """Return picture `index`'s own generator, on the CPU so that every device draws the same."""
    state = np.random.SeedSequence((seed, seeds, index)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def _noise(base: Base, size: int, generators: list[torch.Generator]) -> torch.Tensor:
    side = size // base.downsampling
    shape = (base.unet.config.in_channels, side, side)
    noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
    return noise.to(base.device)


def _as_png(pictures: Iterator[NDArray[np.uint8]]) -> Iterator[tuple[str, bytes]]:
    for index, picture in enumerate(pictures):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG", compress_level=1)
        yield f"{index:08d}.png", buffer.getvalue()


def _record(
    sampler: Sampler, cell: Cell, size: int, base: Base, real: PictureSet, tar: Path
) -> SetRecord:
    scheduler = base.pipeline.scheduler
    timesteps = tuple(int(t) for t in scheduler.timesteps)
    return SetRecord(
        sampler=sampler,
        steps=cell.steps,
        guidance=cell.guidance,
        nfe=cell.nfe,
        seeds=cell.seeds,
        count=len(real.captions),
        scheduler=SetScheduler(**{"class": type(scheduler).__name__}, timesteps=timesteps),
        prompts_sha256=captions_sha256(real.captions),
        height=size,
        width=size,
        tar_sha256=sha256(tar),
    )
