"""Precision and recall: whose pictures lie where the others' are.

A set's region is the union of balls about its rows, each as wide as the distance to the row's third
neighbour. Precision is the share of a sampler's rows in the region of the real ones, recall that of
real rows in the sampler's region; a sampler that lost modes loses recall. Both depend on N.

Their errors have two parts: of the rows that are counted, and of those whose region it is, the
latter by leaving a twentieth of them out in turn.

Legend: N rows of features of either set, D dimensions, G groups.
Source: Kynkäänniemi et al. 2019; Efron 1982 (jackknife by groups).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

NEAREST = 3
"""Which neighbour is the edge of a ball, the row itself left aside."""

_GROUPS = 20
_BLOCK = 512
"""Rows of the distances in memory at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """A share, and the two parts of its error: single values whose mean it is."""

    inside: Array
    """Whether each row that is counted lies within, 0 or 1 [N]."""
    pseudo: Array
    """Pseudo-values [G] of the rows whose region it is, one for each group left out."""

    @property
    def value(self) -> float:
        """The share itself."""
        return float(self.inside.mean())


def precision(generated: ArrayLike, real: ArrayLike) -> Share:
    """Return which rows of `generated` [N, D] lie in the region of `real` [N, D]."""
    return _share(np.asarray(generated, np.float64), np.asarray(real, np.float64))


def recall(generated: ArrayLike, real: ArrayLike) -> Share:
    """Return which rows of `real` [N, D] lie in the region of `generated` [N, D]."""
    return _share(np.asarray(real, np.float64), np.asarray(generated, np.float64))


def _share(rows: Array, region: Array) -> Share:
    groups = np.arange(len(region)) % min(_GROUPS, len(region))
    count = int(groups.max()) + 1
    edges = _edges(region, groups, count)
    inside = np.zeros((1 + count, len(rows)))
    for block, squared in _squared_distances(rows, region):
        within = squared <= edges[0]
        inside[0, block] = within.any(1)
        for group in range(count):
            kept = groups != group
            inside[1 + group, block] = (squared[:, kept] <= edges[1 + group, kept]).any(1)
    whole, *without = inside.mean(1)
    pseudo = count * whole - (count - 1) * np.array(without)
    return Share(inside[0], pseudo)


def _edges(region: Array, groups: NDArray[np.int64], count: int) -> Array:
    """Return squared radii [1 + G, N]: of all rows, and with each group left out."""
    edges = np.empty((1 + count, len(region)))
    for block, squared in _squared_distances(region, region):
        squared[np.arange(len(squared)), np.arange(len(region))[block]] = np.inf
        edges[0, block] = _nearest(squared)
        for group in range(count):
            edges[1 + group, block] = _nearest(squared[:, groups != group])
    return edges


def _nearest(squared: Array) -> Array:
    rank = min(NEAREST, squared.shape[1]) - 1
    return np.asarray(np.partition(squared, rank, axis=1)[:, rank])


def _squared_distances(a: Array, b: Array) -> Iterator[tuple[slice, Array]]:
    lengths_a, lengths_b = np.sum(a**2, 1), np.sum(b**2, 1)
    for start in range(0, len(a), _BLOCK):
        block = slice(start, min(start + _BLOCK, len(a)))
        squared = lengths_a[block, None] + lengths_b[None, :] - 2 * a[block] @ b.T
        yield block, squared.clip(0)
