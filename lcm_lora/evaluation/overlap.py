"""By how much the overlap of two covariances comes out too small of few rows.

The overlap tr (S_a S_r)^(1/2) of a Fréchet distance is estimated by a nuclear norm |A R^T|_* of
centred rows. Of normal rows, A = Z_a S_a^(1/2) and R = Z_r S_r^(1/2) with standard normal Z; as
rotations of Z change nothing, its law depends on the singular values k of S_a^(1/2) S_r^(1/2)
alone: it is that of |Z_a diag(k) Z_r^T|_*, whose true value is sum k. So k is sought for which
simulated singular values have the means that were observed, and what is lost between sum k and
their sum is the bias. Any bend of the spectrum is found: of isotropic laws the loss is large, of
laws of few modes nearly none.

Of many dimensions a smaller problem of the same shape is simulated, modes joined in blocks and the
rows a dimension the same; what joining changes is taken out by the loss in second order, which is
exact for many rows.

With fewer rows than dimensions the modes that were not seen may hold anything: nothing can be said.

Legend: N and M rows, D dimensions, K = min(D, 256) joined modes, L draws.
Source: Chong and Forsyth 2020 for the bias; Dowson and Landau 1982.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_MODES = 256
_DRAWN = 256
"""Modes in all draws together: the more modes, the less one draw differs from the next."""
_CHECKED = 3
"""Times as many draws tell the loss of the modes that were found."""
_ROUNDS = 8
_SMALLEST = 1e-12
"""Of the largest mode: what was seen of none still has to be of a size to be scaled."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Numbers of rows and dimensions, and the seed of what is simulated."""

    rows: int
    others: int
    width: int
    seed: int


@dataclass(frozen=True, slots=True)
class Overlap:
    """The true overlap over the observed one, and what single pairs of rows do to it."""

    ratio: float
    """At least 1."""
    curvature: float
    """E q^2 of two rows of one side: q is the second derivative of -2 overlap."""


def correct_overlap(singular: Array, shape: Shape) -> Overlap:
    """Estimate the true overlap.

    Args:
        singular: Singular values of A R^T / ((N - 1) (M - 1))^(1/2), largest first.
        shape: Of A and R.
    """
    observed = np.zeros(shape.width)
    seen = min(len(singular), shape.width)
    observed[:seen] = singular[:seen]
    total = float(observed.sum())
    if total <= 0:
        return Overlap(1.0, 0.0)
    joined = _joined(observed)
    modes = _matching(joined, _draws(shape, 1))
    simulated = _simulated(modes, _draws(shape, _CHECKED))
    growth = np.divide(modes, joined, out=np.ones_like(modes), where=joined > 0)
    spectrum = observed * _spread(growth, shape.width)
    coarse = _loss(modes) * shape.width / len(modes)
    lost = 1 - float(simulated.sum() / modes.sum())
    lost *= min(1.0, _loss(spectrum) / coarse)
    return Overlap(1 / (1 - lost), 2 * _curvature(spectrum))


def _matching(observed: Array, draws: tuple[Array, Array]) -> Array:
    """Return modes [K] whose simulated singular values are the observed."""
    modes = observed + _SMALLEST * observed[0]
    for _ in range(_ROUNDS):
        simulated = _simulated(modes, draws)
        # Modes beyond the rows are never seen: they grow as all others do together.
        growth = np.full(len(modes), observed.sum() / simulated.sum())
        seen = simulated > _SMALLEST * simulated[0]
        growth[seen] = observed[seen] / simulated[seen]
        modes = np.sort(modes * growth.clip(0.1, 10))[::-1]
    return modes


def _simulated(modes: Array, draws: tuple[Array, Array]) -> Array:
    """Return the mean singular values [K] of Z_a diag(modes) Z_r^T over draws."""
    a, r = draws
    values = np.linalg.svd((a * modes) @ r.transpose(0, 2, 1), compute_uv=False).mean(0)
    return np.pad(values, (0, len(modes) - len(values)))


@functools.lru_cache(maxsize=8)
def _draws(shape: Shape, times: int) -> tuple[Array, Array]:
    """Return factors of Wishart matrices, [L, min(N', K), K] and likewise for the others."""
    rng = np.random.default_rng((shape.seed, times))
    modes = min(shape.width, _MODES)
    count = times * -(-_DRAWN // modes)
    sides = (shape.rows, shape.others)
    freedom = [max(1, round((count - 1) * modes / shape.width)) for count in sides]
    one, other = (
        np.stack([_wishart_factor(rng, each, modes) for _ in range(count)]) for each in freedom
    )
    return one, other


def _wishart_factor(rng: np.random.Generator, freedom: int, modes: int) -> Array:
    """Return a factor of standard normal rows over the root of their number.

    Columns get their expected length: a large mode's chance length would drown what is lost.
    """
    rows = rng.normal(size=(freedom, modes))
    rows *= _expected_length(freedom) / np.linalg.norm(rows, axis=0)
    return np.asarray(np.linalg.qr(rows, mode="r")) if freedom > modes else rows


def _expected_length(freedom: int) -> float:
    """Return the mean of a chi variable over the root of its degrees of freedom."""
    ratio = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2))
    return math.sqrt(2 / freedom) * ratio


def _joined(values: Array) -> Array:
    """Return means of blocks of values [D], [K]."""
    modes = min(len(values), _MODES)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.linspace(0, len(values), modes + 1)
    return np.diff(np.interp(ends, np.arange(len(sums)), sums)) * modes / len(values)


def _spread(values: Array, width: int) -> Array:
    """Return values [K] of blocks for each of D modes."""
    return values[(np.arange(width) * len(values)) // width]


def _loss(modes: Array) -> float:
    """Return sum k_i k_j / (k_i + k_j), with the diagonal twice, over the sum of modes.

    Times (1 / N + 1 / M) / 4 it is the share of the overlap that is lost, in second order.
    """
    return float((_pairs(modes).sum() + modes.sum() / 2) / modes.sum())


def _curvature(modes: Array) -> float:
    """Return sum (k_i k_j / (k_i + k_j))^2: for normal rows, half of E q^2."""
    return float(np.sum(_pairs(modes) ** 2) + np.sum(modes**2) / 4)


def _pairs(modes: Array) -> Array:
    """Return k_i k_j / (k_i + k_j), [D, D]."""
    sums = np.add.outer(modes, modes)
    products = np.multiply.outer(modes, modes)
    return np.asarray(np.divide(products, sums, where=sums > 0, out=np.zeros_like(sums)))
