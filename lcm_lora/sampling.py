"""Make image sets: one sampler, one step count, one guidance, the same noise for every one of them.

Picture i starts from noise that is a function of (seed, set of noises, i) alone, and draws whatever
else its sampler needs from the same generator. So cells can be compared picture by picture, and no
picture depends on the batch it was made in.

Legend: B pictures, C x h x w latents.
"""

from __future__ import annotations

import hashlib
import io
import json
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

from lcm_lora.adapter import DIFFUSERS_FILE
from lcm_lora.bases import Base
from lcm_lora.data.shards import read_manifest, read_split, write_tar
from lcm_lora.errors import UserError
from lcm_lora.files import new_folder, write_json
from lcm_lora.params import Cell, Generate, Sampler
from lcm_lora.progress import Advance, progress


def generate(
    params: Generate, sampler: Sampler, base: Base, shards: Path, adapter: Path, out: Path
) -> None:
    """Make every image set of `sampler` for the first held-out captions, into the folder `out`.

    Args:
        params: Which cells, how many captions, which seed.
        sampler: `lcm` loads `adapter`; the others use the base alone.
        base: Its pipeline gets the sampler's scheduler.
        shards: What `prepare` wrote.
        adapter: What `distill` wrote; read by `lcm` only.
        out: Folder to write.

    Raises:
        UserError: There are fewer held-out captions than asked for, or no adapter.
    """
    captions = held_out_captions(shards, params.prompts)
    size = read_manifest(shards)["resolution"]
    if sampler == "lcm":
        load_adapter(base, adapter)
    cells = params.cells[sampler]
    latency = {}
    with (
        new_folder(out) as made,
        progress(f"generate {sampler}", len(cells) * len(captions), "pictures") as advance,
    ):
        write_json(made / "captions.json", captions)
        for cell in cells:
            base.pipeline.scheduler = scheduler_of(sampler, base, adapter)
            started = time.perf_counter()
            pictures = paint(base, captions, cell, size, params.seed, params.batch, advance)
            write_tar(made / f"{cell.name}.tar", _as_png(pictures))
            seconds = time.perf_counter() - started
            write_json(made / f"{cell.name}.json", _record(sampler, cell, size, base, captions))
            latency[cell.name] = {
                "ms_per_image": round(1000 * seconds / len(captions), 3),
                "device": str(base.device),
                "batch": params.batch,
            }
        write_json(made / "latency.json", latency)


def held_out_captions(shards: Path, count: int) -> list[str]:
    """Return the captions of the first `count` held-out samples."""
    captions = [sample.caption for sample in read_split(shards, "held_out", count)]
    if len(captions) < count:
        raise UserError(
            f"generate.prompts: {count} asked for, but {shards} holds out {len(captions)}; "
            "lower it, or raise prepare.held_out or the number of source pictures"
        )
    return captions


def load_adapter(base: Base, adapter: Path) -> None:
    """Load the adapter in the folder `adapter` into the base's pipeline."""
    if not (adapter / DIFFUSERS_FILE).is_file():
        raise UserError(f"{adapter}: no {DIFFUSERS_FILE} in it; run `lcm-lora distill`")
    base.pipeline.load_lora_weights(str(adapter), weight_name=DIFFUSERS_FILE, adapter_name="lcm")


def scheduler_of(sampler: Sampler, base: Base, adapter: Path) -> Any:
    """Return a fresh scheduler of `sampler`, on the base's noise schedule.

    Classical solvers use trailing spacing: with the default, one step starts at t = 1 and decodes
    the raw noise. The adapter's scheduler comes from its recipe: its grid is the trained one.
    """
    config = base.pipeline.scheduler.config
    trailing = {"timestep_spacing": "trailing", "steps_offset": 0}
    match sampler:
        case "lcm":
            recipe = json.loads((adapter / "recipe.json").read_text())
            return LCMScheduler.from_config(recipe["scheduler"]["config"])
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
    return noise.to(base.device, base.dtype)


def _as_png(pictures: Iterator[NDArray[np.uint8]]) -> Iterator[tuple[str, bytes]]:
    for index, picture in enumerate(pictures):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG", compress_level=1)
        yield f"{index:08d}.png", buffer.getvalue()


def _record(
    sampler: Sampler, cell: Cell, size: int, base: Base, captions: list[str]
) -> dict[str, Any]:
    scheduler = base.pipeline.scheduler
    return {
        "sampler": sampler,
        "steps": cell.steps,
        "guidance": cell.guidance,
        "nfe": cell.nfe,
        "seeds": cell.seeds,
        "count": len(captions),
        "scheduler": {
            "class": type(scheduler).__name__,
            "timesteps": [int(t) for t in scheduler.timesteps],
        },
        "prompts_sha256": hashlib.sha256(json.dumps(captions).encode()).hexdigest(),
        "height": size,
        "width": size,
    }
