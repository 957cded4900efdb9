"""An adapter's file with a weight, as people write it: `ink.safetensors:0.8`."""

from __future__ import annotations

import math
from pathlib import Path

from lcm_lora.errors import UserError

LARGEST_WEIGHT = 10
"""Either way, as in the parameters: room for experiments. A page and a service allow less."""


def weighted_file(text: str) -> tuple[Path, float]:
    """Return the file or folder that a text names, and its weight: 1 if it names none.

    A name may hold colons: one that is there is taken whole, and what follows the last colon is a
    weight only where it has no slash, so `models:/ink@prod` has none.

    Raises:
        UserError: The text names no file, or a weight that is no number from -10 to 10.
    """
    name, colon, weight = text.rpartition(":")
    if not colon or "/" in weight or Path(text).exists():
        name, weight = text, "1"
    if not name.strip():
        raise UserError(f"{text!r}: names no file; write FILE or FILE:WEIGHT")
    return Path(name), _number(text, weight)


def _number(text: str, weight: str) -> float:
    try:
        number = float(weight)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(
            f"{text}: its weight, {weight!r}, is no finite number; write FILE:WEIGHT, such as "
            "ink.safetensors:0.8"
        )
    if abs(number) > LARGEST_WEIGHT:
        raise UserError(f"{text}: its weight lies outside of -{LARGEST_WEIGHT} to {LARGEST_WEIGHT}")
    return number
