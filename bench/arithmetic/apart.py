"""How far variants of an adapter paint from the whole one, picture by picture.

All start from the same noise, so pictures of one place differ by the adapter alone. The difference
is the root of the mean squared one over pixels and colours, and it is told as a share of that which
no adapter makes: 0 paints what the whole one does, 1 is as far from it as no adapter is.

Legend: N pictures, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.arithmetic.painted import COMMAND, FEW, Outcome, Place
from lcm_lora.evaluation.simultaneous import half_width
from lcm_lora.seeing.image_sets import read_pictures

APART = "apart"
"""The name of this metric."""

Array = NDArray[np.float64]


def apart(
    question: str, whole: str, nothing: str, names: Sequence[str], place: Place
) -> list[Outcome]:
    """Return how far the variants of a question are from the whole adapter.

    Args:
        question: Its name.
        whole: That of the whole adapter.
        nothing: That of no adapter.
        names: Those of the variants.
        place: Where all painted.
    """
    target = _pictures(place, whole)
    most = differences(_pictures(place, nothing), target)
    level = place.score.level
    widths = half_width(level), half_width(level, len(names))
    found = []
    for name in names:
        value, error = ratio(differences(_pictures(place, name), target), most)
        ends = [value + sign * width * error for width in widths for sign in (-1, 1)]
        found.append(Outcome(question, name, APART, value, *ends[:2], value, *ends[2:]))
    return found


def differences(pictures: Array, others: Array) -> Array:
    """Return the difference of each picture of [N, H, W, 3] from the other at its place, [N]."""
    return np.asarray(np.sqrt(np.mean((pictures - others) ** 2, axis=(1, 2, 3))))


def ratio(values: Array, beside: Array) -> tuple[float, float]:
    """Return the ratio of two means over the same N pictures, and its standard error.

    The error is that of the first order, of the mean of `values - ratio * beside`.
    """
    share = values.mean() / beside.mean()
    left = values - share * beside
    return float(share), float(left.std(ddof=1) / len(left) ** 0.5 / beside.mean())


def _pictures(place: Place, name: str) -> Array:
    """Return all pictures of a variant, float64 [N, H, W, 3] in 0..255."""
    tar, count = place.images / name / f"{FEW.name}.tar", len(place.theme.captions)
    pictures = read_pictures(tar, list(range(count)), COMMAND)
    return np.stack([np.asarray(picture, np.float64) for picture in pictures])
