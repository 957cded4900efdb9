"""The kernel distance between two sets of features, and its standard error.

Every row is used once: no random subsets, hence no seed and the least noise. The distance has no
bias at any number of rows, so it may come out slightly negative.

Legend: N rows of features, D dimensions, g the kernel with the reference's part taken off.
Source: Binkowski et al. 2018 (KID); Gretton et al. 2012, equations 3 and 4 (rows drawn apart and
rows drawn in pairs); Hoeffding 1948 (variance of a U-statistic).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

SCALE = 1000.0
"""Distances are given times a thousand, as the literature prints them."""

FEWEST = 4
"""Rows that a standard error needs: the estimate of its variance takes rows four at a time."""

_BLOCK = 1024
"""Rows of the kernel's matrix in memory at a time."""


def kernel_distance(a: ArrayLike, b: ArrayLike, matched: bool = False) -> float:
    """Return the squared maximum mean discrepancy times 1000, kernel (x.y / D + 1)^3, unbiased.

    Args:
        a: Features [N, D] with N >= 2; computed in float64.
        b: Features of the other set, same D.
        matched: Row i of both is of one prompt; so it says nothing of how near the laws are, and
            is left out.
    """
    rows_a, rows_b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    cross = float(_mean_with(rows_a, rows_b, matched).mean())
    return SCALE * (_mean_of_pairs(rows_a) + _mean_of_pairs(rows_b) - 2 * cross)


def kernel_standard_error(a: ArrayLike, b: ArrayLike, matched: bool = False) -> float:
    """Return the standard error of `kernel_distance(a, b)` over draws of `a`; `b` stays fixed.

    Given the reference, the distance is the mean of g(x, y) = k(x, y) - m(x) - m(y) + constant over
    pairs of rows, m being the mean kernel with the reference. The variance of such a mean has an
    exact unbiased estimate from sums over the pairs. A bootstrap would count a repeated row as a
    close pair, and where both laws are equal it overstates the error, as then single rows carry no
    signal and resampling invents some.

    Args:
        a: Features [N, D] with N >= 4.
        b: Reference features, same D.
        matched: As for the distance.
    """
    rows_a, rows_b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    reference = _mean_with(rows_a, rows_b, matched)
    n = len(rows_a)
    # Centred, so that the sums below do not cancel.
    centre = _mean_of_pairs(rows_a) - 2 * reference.mean()
    sums, squares = np.empty(n), 0.0
    for rows, block in _kernel_blocks(rows_a, rows_a):
        g = block - reference[rows, None] - reference[None, :] - centre
        g[np.arange(len(g)), np.arange(n)[rows]] = 0.0
        sums[rows] = g.sum(1)
        squares += float(np.sum(g**2))
    return SCALE * float(np.sqrt(_variance(sums, squares)))


def _variance(sums: Array, squares: float) -> float:
    """Return the variance of the mean of g over pairs, from its row sums and its sum of squares."""
    n = len(sums)
    pairs, triples = n * (n - 1), n * (n - 1) * (n - 2)
    sharing_one = float(np.sum(sums**2)) - squares
    sharing_none = float(np.sum(sums)) ** 2 - 4 * sharing_one - 2 * squares
    mean_squared = sharing_none / (triples * (n - 3))
    both = max(0.0, squares / pairs - mean_squared)
    # A negative estimate of the variance that single rows cause can only be noise.
    single = max(0.0, sharing_one / triples - mean_squared)
    return (2 * both + 4 * (n - 2) * single) / pairs


def _mean_with(a: Array, b: Array, matched: bool) -> Array:
    """Return the mean kernel of each row of `a` with the rows of `b`, float64 [N]."""
    sums = np.concatenate([block.sum(1) for _, block in _kernel_blocks(a, b)])
    if not matched:
        return np.asarray(sums / len(b))
    own = (np.sum(a * b, 1) / a.shape[1] + 1) ** 3
    return np.asarray((sums - own) / (len(b) - 1))


def _mean_of_pairs(rows: Array) -> float:
    n = len(rows)
    total = sum(float(block.sum()) for _, block in _kernel_blocks(rows, rows))
    itself = float(np.sum((np.sum(rows**2, 1) / rows.shape[1] + 1) ** 3))
    return (total - itself) / (n * (n - 1))


def _kernel_blocks(x: Array, y: Array) -> Iterator[tuple[slice, Array]]:
    for start in range(0, len(x), _BLOCK):
        rows = slice(start, min(start + _BLOCK, len(x)))
        yield rows, (x[rows] @ y.T / x.shape[1] + 1) ** 3
