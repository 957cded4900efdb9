"""How far two sets of samples lie apart: in pictures, in captions, and in how they fit together.

The distances are those of the evaluation, unbiased at any number of samples, with the standard
error over draws of both sets; so two draws of the same data come out near zero, and an interval
tells whether more than a margin lies between them. All intervals hold together. Each is told as a
share of the spread of the data before, so that one margin serves every network: a squared distance
of two means, of the variance about one; the mean fit, of its standard deviation.

Legend: N samples of one set, M of the other, D dimensions.
Source: Gretton et al. 2012 (MMD); Jayasumana et al. 2024 (its kernel for CLIP's embeddings); Cohen
1988 (difference of means in standard deviations).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lcm_lora.drift.record import Quantity
from lcm_lora.evaluation.kernel import (
    SCALE,
    Array,
    Contrast,
    Kernel,
    Reference,
    cubic,
    gaussian,
    kernel_estimate,
    unit_rows,
)
from lcm_lora.evaluation.simultaneous import half_width
from lcm_lora.params.drift import Drift

Rows = NDArray[np.float32]

_LEAST = 1e-9
"""Spread of data that are all alike: whatever differs from them is far away."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What networks say of the samples of one set."""

    pictures: Mapping[str, Rows]
    """Features [N, D] by the name of their network."""
    captions: Rows
    """CLIP's embeddings [N, D]."""
    fit: Rows
    """CLIP scores [N]."""


def compare(before: Seen, now: Seen, params: Drift, level: float) -> tuple[Quantity, ...]:
    """Return how far `now` lies from `before`, quantity by quantity.

    Args:
        before: Of the data that the champion was trained on.
        now: Of new data.
        params: The margins.
        level: That all intervals hold at once.
    """
    distances = {
        f"pictures, {name}": _distance(_rows(rows), _rows(before.pictures[name]), cubic)
        for name, rows in now.pictures.items()
    }
    captions = unit_rows(now.captions), unit_rows(before.captions)
    distances["captions"] = _distance(*captions, gaussian)
    width = half_width(level, len(distances) + 1)
    fit = _quantity("fit of picture and caption", _moved(now.fit, before.fit), params.fit, width)
    return (*(_quantity(n, d, params.distance, width) for n, d in distances.items()), fit)


def _rows(features: Rows) -> Array:
    return features.astype(np.float64)


def _distance(now: Array, before: Array, kernel: Kernel) -> Contrast:
    """Return the squared distance of the means in the kernel's space over the variance there."""
    found = kernel_estimate(now, Reference(before, False, kernel))
    own = float(kernel(np.einsum("ij,ij->i", before, before), before.shape[1]).mean())
    across = Reference(before, False, kernel).pairs.mean
    variance = max(SCALE * (own - across), _LEAST)
    return Contrast(found.value / variance, found.se / variance)


def _moved(now: Rows, before: Rows) -> Contrast:
    """Return the difference of two means over the deviation before, and its error (Welch)."""
    a, b = now.astype(np.float64), before.astype(np.float64)
    error = np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    deviation = max(float(b.std(ddof=1)), _LEAST)
    return Contrast(float((a.mean() - b.mean()) / deviation), float(error / deviation))


def _quantity(name: str, found: Contrast, margin: float, width: float) -> Quantity:
    low, high = found.value - width * found.se, found.value + width * found.se
    return Quantity(
        name=name,
        value=found.value,
        low=low,
        high=high,
        margin=margin,
        has_drifted=low > margin or high < -margin,
    )
