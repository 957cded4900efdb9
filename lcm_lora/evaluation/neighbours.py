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
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

NEAREST = 3
"""Which neighbour is the edge of a ball, the row itself left aside."""

_GROUPS = 20
_CANDIDATES = 4 * NEAREST
"""Neighbours among which the third is looked for when a group is left out, if they suffice."""
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


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """The balls about a set's rows."""

    rows: Array
    """[N, D]."""
    edges: Array
    """Squared radii [1 + G, N]: of all rows, and with each group left out; its own are negative."""

    @classmethod
    def of(cls, features: ArrayLike) -> Self:
        """Return the region of features [N, D] with N > 3."""
        rows = np.asarray(features, np.float64)
        groups = np.arange(len(rows)) % min(_GROUPS, len(rows))
        edges = np.empty((2 + int(groups.max()), len(rows)))
        for block, squared in _squared_distances(rows, rows):
            squared[np.arange(len(squared)), np.arange(len(rows))[block]] = np.inf
            edges[:, block] = _edges(squared, groups)
        left_out = groups == np.arange(len(edges) - 1)[:, None]
        edges[1:][left_out] = -1.0
        return cls(rows, edges)

    def share(self, features: ArrayLike) -> Share:
        """Return which of other features [N, D] lie within."""
        rows = np.asarray(features, np.float64)
        inside = np.empty((len(self.edges), len(rows)))
        for block, squared in _squared_distances(rows, self.rows):
            for edges, found in zip(self.edges, inside[:, block], strict=True):
                found[:] = (squared <= edges).any(1)
        whole, *without = inside.mean(1)
        pseudo = len(without) * whole - (len(without) - 1) * np.array(without)
        return Share(inside[0], pseudo)


def _edges(squared: Array, groups: NDArray[np.int64]) -> Array:
    """Return the third smallest of each row [B, N], of all and without each group: [1 + G, B]."""
    count = min(_CANDIDATES, squared.shape[1])
    near = np.argpartition(squared, count - 1, axis=1)[:, :count]
    values = np.take_along_axis(squared, near, axis=1)
    edges = [_third(values)]
    for group in range(int(groups.max()) + 1):
        values_left = np.where(groups[near] == group, np.inf, values)
        edges.append(_third(values_left))
        short = np.isinf(edges[-1])
        if short.any():  # nearly all of the nearest are of this group
            edges[-1][short] = _third(np.where(groups == group, np.inf, squared[short]))
    return np.stack(edges)


def _third(values: Array) -> Array:
    return np.asarray(np.partition(values, NEAREST - 1, axis=1)[:, NEAREST - 1])


def _squared_distances(a: Array, b: Array) -> Iterator[tuple[slice, Array]]:
    lengths_a, lengths_b = np.sum(a**2, 1), np.sum(b**2, 1)
    for start in range(0, len(a), _BLOCK):
        block = slice(start, min(start + _BLOCK, len(a)))
        squared = lengths_a[block, None] + lengths_b[None, :] - 2 * a[block] @ b.T
        yield block, squared.clip(0)
