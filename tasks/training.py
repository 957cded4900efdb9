"""What a finished training left: the adapter's record, who made it, and its curve."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lcm_lora import layout
from lcm_lora.recipe import Recipe, read_recipe
from lcm_lora.records import read_record
from lcm_lora.training.curve import CURVE, CurveRow, read_curve
from lcm_lora.training.origin import ORIGIN, Origin

_MEND = "run `dvc repro --force --single-item distill`"


@dataclass(frozen=True)
class Training:
    """A training, by its records."""

    recipe: Recipe
    origin: Origin
    curve: list[CurveRow]


def read_training(root: Path) -> Training:
    """Read what the training in the project folder `root` left.

    Raises:
        UserError: Something of it is missing or damaged.
    """
    folder = root / layout.TRAINING
    return Training(
        recipe=read_recipe(root / layout.ADAPTER),
        origin=read_record(folder / ORIGIN, Origin, _MEND),
        curve=read_curve(folder / CURVE, _MEND),
    )
