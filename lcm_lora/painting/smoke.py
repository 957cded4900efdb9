"""Paint the smoke pictures of an adapter as the served model paints: beside the base's weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lcm_lora.data.pictures import encoded
from lcm_lora.device import decides
from lcm_lora.files import new_folder, write_bytes
from lcm_lora.painting.dressed import Wardrobe
from lcm_lora.painting.paint import noise_of, paint
from lcm_lora.painting.schedulers import scheduler_of
from lcm_lora.painting.studio import SharedBase
from lcm_lora.painting.subject import Subject
from lcm_lora.params.generate import Cell
from lcm_lora.params.hardware import Hardware
from lcm_lora.recipe import Recipe
from lcm_lora.records import write_record
from lcm_lora.smoke import SMOKE, Smoke, SmokePicture, pixels_sha256, usual_steps

_SEED = 0


def paint_smoke(
    recipe: Recipe, subject: Subject, prompts: Sequence[str], hardware: Hardware, out: Path
) -> None:
    """Paint one picture a prompt, and write the folder `out`.

    Args:
        recipe: Of the adapter: how it is best sampled.
        subject: The base with the adapter.
        prompts: What is painted.
        hardware: Where, and in which precision.
        out: Folder to write.

    Raises:
        UserError: The base cannot be loaded, the adapter does not fit, or a picture is not finite.
    """
    base = SharedBase(subject.base, hardware).loaded
    config = dict(base.pipeline.scheduler.config)
    base.pipeline.scheduler = scheduler_of("lcm", config, subject.lcm_config)
    Wardrobe(base).wear(subject)
    size = base.unet.config.sample_size * base.downsampling  # as pipelines paint that are not told
    cell = Cell(steps=usual_steps(recipe.recommended), guidance=recipe.recommended.guidance)
    where = decides(base.device)
    with new_folder(out) as made:
        record = Smoke(
            adapter_sha256=recipe.weights_sha256,
            device=where["device"],
            threads=where.get("threads"),
            precision=hardware.precision,
            pictures=tuple(
                _put(paint(base, [prompt], cell, size, _SEED, index)[0], prompt, cell, index, made)
                for index, prompt in enumerate(prompts)
            ),
        )
        write_record(made / SMOKE, record)


def _put(
    picture: NDArray[np.uint8], prompt: str, cell: Cell, index: int, out: Path
) -> SmokePicture:
    """Write a picture; return what the served model has to be asked for it."""
    file = f"{index}.png"
    write_bytes(out / file, encoded(Image.fromarray(picture), None))
    return SmokePicture(
        prompt=prompt,
        seed=noise_of(_SEED, cell.seeds, index).initial_seed(),
        steps=cell.steps,
        guidance=cell.guidance,
        file=file,
        pixels_sha256=pixels_sha256(picture),
    )
