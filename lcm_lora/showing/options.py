"""What a person asks for in words and files, and whether it goes together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lcm_lora.combining.named import LARGEST_WEIGHT
from lcm_lora.errors import UserError
from lcm_lora.painting.start import Start, check_leaves_steps
from lcm_lora.showing.asked import Asked
from lcm_lora.showing.order import ACCELERATED

_MOST_PICTURES = 100


@dataclass(frozen=True, slots=True)
class Options:
    """What to paint."""

    prompt: str
    painters: tuple[str, ...]
    steps: tuple[int, ...]
    guidance: float | None
    """None is each painter's own."""
    seed: int
    weight: float = 1.0
    """l1: of the adapter and the champion."""
    styles: tuple[str, ...] = ()
    """Files, folders or hub ids, each with its l2, such as `ink.safetensors:0.8`."""
    negative: str | None = None
    picture: Path | None = None
    """To start from."""
    strength: float | None = None
    """None is what suits: of a picture, or of a mask."""
    mask: Path | None = None
    """White is painted, black is kept."""


def check_goes_together(options: Options) -> None:
    """Refuse what cannot be meant, by the name of its option.

    Raises:
        UserError: An option lies outside of its range, or lacks another.
    """
    _check_within("--guidance", options.guidance, 0, 100)
    _check_within("--weight", options.weight, -LARGEST_WEIGHT, LARGEST_WEIGHT)
    _check_within("--strength", options.strength, 0, 1)
    if options.negative is not None and not options.negative.strip():
        raise UserError("--negative: is empty; say what the picture should not show")
    if options.weight != 1 and not set(options.painters) & set(ACCELERATED):
        raise UserError(
            f"--weight: weighs {' and '.join(ACCELERATED)} alone, and neither is in --subjects; "
            "name one there, or leave --weight out"
        )
    for option, given in (("--strength", options.strength), ("--mask", options.mask)):
        if given is not None and options.picture is None:
            raise UserError(f"{option}: there is no picture to start from; add --picture FILE")


def _check_within(option: str, value: float | None, least: float, most: float) -> None:
    # Not `value < least`: of what is no number, both are false.
    if value is not None and not (math.isfinite(value) and least <= value <= most):
        raise UserError(f"{option} {value:g}: lies outside of {least:g} to {most:g}")


def check_asked(options: Options, asked: Sequence[Asked], start: Start | None) -> None:
    """Refuse what comes to no pictures, to too many, to no steps, or acts on none of them.

    Raises:
        UserError: It does.
    """
    if not asked:
        raise UserError("--subjects: nobody is named; name some, such as adapter,teacher")
    if len(asked) > _MOST_PICTURES:
        raise UserError(
            f"--steps, --subjects: {len(asked)} pictures on one sheet; ask for at most "
            f"{_MOST_PICTURES}"
        )
    for one in asked:
        check_leaves_steps(one.cell, start)
    if options.negative is not None and not any(one.cell.guidance > 1 for one in asked):
        raise UserError(
            "--negative: acts on nothing, as guidance above 1 alone leads away from it; add "
            "--guidance 1.5, which takes two network evaluations a step"
        )
