"""What a finished training left: its records and curve, and the adapter that was chosen of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from lcm_lora import layout
from lcm_lora.adapter_files import RECIPE
from lcm_lora.candidates import find_candidates
from lcm_lora.evaluation.selection import Selection, read_selection
from lcm_lora.recipe import Recipe, read_recipe
from lcm_lora.records import read_record
from lcm_lora.training.curve import CURVE, CurveRow, read_curve
from lcm_lora.training.origin import ORIGIN, Origin

_MEND = "run `dvc repro --force --single-item distill`"


@dataclass(frozen=True)
class Course:
    """The course of a training, which is known before one of its candidates is chosen."""

    candidates_sha256: str
    """Over the weights of all its candidates: equal trainings have equal ones."""
    origin: Origin
    curve: list[CurveRow]


@dataclass(frozen=True)
class Training(Course):
    """A training and the adapter that came of it."""

    recipe: Recipe
    selection: Selection


def read_course(root: Path) -> Course:
    """Read what the training in the project folder `root` left.

    Raises:
        UserError: Something of it is missing or damaged.
    """
    folder = root / layout.TRAINING
    return Course(
        candidates_sha256=_candidates_sha256(root / layout.CANDIDATES),
        origin=read_record(folder / ORIGIN, Origin, _MEND),
        curve=read_curve(folder / CURVE, _MEND),
    )


def read_training(root: Path) -> Training:
    """Read the same, and what was chosen of it.

    Raises:
        UserError: Something of it is missing or damaged.
    """
    return Training(
        **vars(read_course(root)),
        recipe=read_recipe(root / layout.ADAPTER),
        selection=read_selection(root / layout.SELECTED),
    )


def _candidates_sha256(folder: Path) -> str:
    # As their recipes say: all the weights of a large model take a minute to read.
    recipes = [
        read_record(candidate.folder / RECIPE, Recipe, _MEND)
        for candidate in find_candidates(folder)
    ]
    return hashlib.sha256("\n".join(r.weights_sha256 for r in recipes).encode()).hexdigest()
