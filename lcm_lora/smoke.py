"""Smoke pictures as a record: what a version painted when it was scored, and must paint again.

Each says all that the served model has to be asked for the same picture.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lcm_lora.recipe import Recommended
from lcm_lora.records import Record, read_record

SMOKE = "smoke.json"


class SmokePicture(Record):
    """A picture that was painted, and how."""

    prompt: str
    seed: int
    steps: int
    guidance: float
    file: str
    """PNG beside the record."""
    pixels_sha256: str
    """Of the pixels alone: libraries compress one picture to several PNGs."""


class Smoke(Record):
    """The smoke pictures of an adapter, and where they were painted."""

    adapter_sha256: str
    device: str | None
    """A GPU's name, or `cpu`; null where nothing was painted."""
    threads: int | None
    """Of a CPU; the last bits depend on it."""
    precision: str | None
    pictures: tuple[SmokePicture, ...]


def read_smoke(folder: Path, mend: str) -> Smoke:
    """Read the record in a folder.

    Raises:
        UserError: It is missing or damaged.
    """
    return read_record(folder / SMOKE, Smoke, mend)


def usual_steps(recommended: Recommended) -> int:
    """Return in how many steps the served model samples unless it is told otherwise."""
    return 4 if 4 in recommended.steps else recommended.steps[-1]


def pixels_sha256(picture: NDArray[np.uint8]) -> str:
    """Return the hash of a picture, uint8 [H, W, 3]."""
    return hashlib.sha256(f"{picture.shape}".encode() + picture.tobytes()).hexdigest()
