"""Have a fetched version paint its smoke pictures again.

`python -m tasks.champions.repaint MODEL PICTURES`: a process of its own, so that whatever a model
does when it loads, nothing of it stays. Its last line is `painted: ` or `error: ` and what there is
to say.
"""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from lcm_lora.data.pictures import pixels
from lcm_lora.errors import UserError, reason
from lcm_lora.smoke import Smoke, SmokePicture, pixels_sha256, read_smoke

PAINTED, ERROR = "painted: ", "error: "

_ROUNDING = 4.0
"""Levels of 255 by which a picture may differ on average: other devices and precisions round
otherwise, and a wrong base, schedule or guidance shows in tens."""


def main(model: str, pictures: str) -> int:
    """Paint, compare, say what came out; return the exit status."""
    try:
        record = read_smoke(Path(pictures), "register the version again")
        if record.threads:
            torch.set_num_threads(record.threads)  # the last bits depend on it
        said = paint_again(mlflow.pyfunc.load_model(model), record, Path(pictures))
    except UserError as error:
        sys.stdout.write(f"{ERROR}{error}\n")
    except Exception as error:  # whatever a model raises
        sys.stdout.write(f"{ERROR}{reason(error)}\n")
    else:
        sys.stdout.write(f"{PAINTED}{said}\n")
        return 0
    return 1


def paint_again(model: Any, record: Smoke, pictures: Path) -> str:
    """Have a served model paint what a record says, and return how it compares.

    Raises:
        UserError: A picture is not as it was.
    """
    differences = [
        _difference(one, pixels((pictures / one.file).read_bytes()), _asked(model, one))
        for one in record.pictures
    ]
    how = f"{max(differences):.2f} levels of 255 apart" if any(differences) else "to the bit"
    return f"{len(differences)} pictures painted as when it was scored, {how}"


def _asked(model: Any, one: SmokePicture) -> NDArray[np.uint8]:
    how = {"seed": one.seed, "num_inference_steps": one.steps, "guidance_scale": one.guidance}
    (image,) = model.predict(pd.DataFrame({"prompt": [one.prompt]}), params=how)["image"]
    return pixels(base64.b64decode(image))


def _difference(one: SmokePicture, before: NDArray[np.uint8], now: NDArray[np.uint8]) -> float:
    """Return by how much a picture differs, in levels of 255 on average."""
    if pixels_sha256(now) == one.pixels_sha256:
        return 0.0
    title = f"{one.file} ({one.prompt[:60]!r})"
    if pixels_sha256(before) != one.pixels_sha256:
        raise UserError(f"{title} was altered since")
    if before.shape != now.shape:
        raise UserError(f"{title} had {before.shape[0]} pixels a side, and now {now.shape[0]}")
    difference = float(np.abs(before.astype(float) - now.astype(float)).mean())
    if difference > _ROUNDING:
        raise UserError(
            f"{title} differs by {difference:.1f} levels of 255 on average, more than the "
            f"{_ROUNDING:g} that rounding may; compare base, libraries and device with the run's"
        )
    return difference


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
