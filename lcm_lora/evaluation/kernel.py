"""Kernel distances between two sets of features, KID and CMMD, and their standard errors.

Every row is used once: no random subsets, hence no seed and the least noise. A distance has no bias
at any number of rows, so it may come out slightly negative. CMMD is published as a V-statistic,
which adds about 1/N to it; here it is the U-statistic too, so that few pictures do not mislead.

The difference of two samplers a and b over the same prompts is one U-statistic too: the mean over
pairs of g_a - g_b, with g(i, j) = k(a_i, a_j) - k(a_i, r_j) - k(a_j, r_i) where row i of the
reference r is of the same prompt. Its variance has an exact unbiased estimate from sums over pairs,
its part of second order included. Of a reference of other prompts, given that reference, k(a_i, r)
is the mean over its rows; what its own draw adds is the variance over those rows. A bootstrap would
count a repeated row as a close pair, and overstates the error where both laws are equal.

Legend: N rows of features, M of the reference, D dimensions.
Source: Binkowski et al. 2018 (KID); Jayasumana et al. 2024 (CMMD); Gretton et al. 2012, equations 3
and 4 (rows drawn apart and rows drawn in pairs); Hoeffding 1948 (variance of a U-statistic).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Kernel = Callable[[Array, int], Array]
"""Takes products of rows and D, gives the kernel."""

SCALE = 1000.0
"""Distances are given times a thousand, as the literature prints them."""

FEWEST = 4
"""Rows that a standard error needs: the estimate of its variance takes rows four at a time."""

_BLOCK = 512
"""Rows of the kernel's matrices in memory at a time."""

_SIGMA = 10.0
"""Width of CMMD's kernel, as published."""


def cubic(products: Array, width: int) -> Array:
    """Return KID's kernel (x.y / D + 1)^3 of products x.y."""
    base = products / width + 1
    return np.asarray(base * base * base)


def gaussian(products: Array, width: int) -> Array:
    """Return CMMD's kernel exp(-|x - y|^2 / 2 sigma^2) of products of rows of length 1."""
    return np.asarray(np.exp((products - 1) / _SIGMA**2))


@dataclass(frozen=True, eq=False)
class Reference:
    """What kernel distances are measured to."""

    rows: Array
    """Features [M, D]."""
    matched: bool
    """Row i is of the same prompt as row i of the sampler; so the two say nothing of how near the
    laws are, and their kernel is left out."""
    kernel: Kernel = cubic

    @functools.cached_property
    def pairs(self) -> _Pairs:
        """Sums over the reference's own pairs, the same for all samplers."""
        return _pairs_of(self.rows, self.kernel)


@dataclass(frozen=True, slots=True)
class Contrast:
    """A kernel distance, or the difference of two, with its standard error."""

    value: float
    se: float


def unit_rows(rows: ArrayLike) -> Array:
    """Return rows [N, D] at length 1, as CMMD takes them; zero stays zero."""
    values = np.asarray(rows, np.float64)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(np.divide(values, lengths, out=np.zeros_like(values), where=lengths > 0))


def kernel_distance(
    a: ArrayLike, b: ArrayLike, matched: bool = False, kernel: Kernel = cubic
) -> float:
    """Return the squared maximum mean discrepancy times 1000, unbiased.

    Args:
        a: Features [N, D] with N >= 2; computed in float64.
        b: Features of the other set, same D.
        matched: As of a `Reference`.
        kernel: KID's if not said otherwise.
    """
    rows = np.asarray(a, np.float64)
    reference = Reference(np.asarray(b, np.float64), matched, kernel)
    cross = float(_row_means(rows, reference).mean())
    return SCALE * (_pairs_of(rows, kernel).mean + reference.pairs.mean - 2 * cross)


def kernel_standard_error(a: ArrayLike, b: ArrayLike, matched: bool = False) -> float:
    """Return the standard error of `kernel_distance(a, b)` over draws of `a`; `b` stays fixed.

    Args:
        a: Features [N, D] with N >= 4.
        b: Reference features, same D.
        matched: As of a `Reference`.
    """
    rows = np.asarray(a, np.float64)
    means = _row_means(rows, Reference(np.asarray(b, np.float64), matched))
    return SCALE * float(np.sqrt(_pairs_of(rows, cubic).variance_given(means)))


def kernel_estimate(rows: Array, reference: Reference) -> Contrast:
    """Return the distance of rows [N, D], with its standard error over draws of both sets."""
    if reference.matched:
        pairs = _Pairs(len(rows))
        for block, g in _in_pairs(rows, reference):
            g += reference.kernel(reference.rows[block] @ reference.rows.T, rows.shape[1])
            pairs.add(block, g)
        return Contrast(SCALE * pairs.mean, SCALE * float(np.sqrt(pairs.variance)))
    own = _pairs_of(rows, reference.kernel)
    (across,) = _crossings([rows], reference)
    value = own.mean + reference.pairs.mean - 2 * float(across.rows.mean())
    of_rows = own.variance_given(across.rows)
    of_others = reference.pairs.variance_given(across.others)
    # What pairs across the sets add is in the variance over either set; it counts once.
    both = max(of_rows + of_others - across.variance_of_pairs, of_rows, of_others)
    return Contrast(SCALE * value, SCALE * float(np.sqrt(both)))


def kernel_differences(
    rows: Array, others: Sequence[Array], reference: Reference
) -> list[Contrast]:
    """Return the distance of `rows` minus that of each of `others`, over the same N prompts.

    What belongs to one sampler is computed once for all of its differences.
    """
    pairs = [_Pairs(len(rows)) for _ in others]
    blocks = _in_pairs if reference.matched else _within
    streams = (blocks(each, reference) for each in (rows, *others))
    for (block, own), *rest in zip(*streams, strict=True):
        for pair, (_, other) in zip(pairs, rest, strict=True):
            pair.add(block, own - other)
    if reference.matched:
        found = [(pair.mean, pair.variance) for pair in pairs]
    else:
        crossings = _crossings([rows, *others], reference)
        found = [_apart(pair, across) for pair, across in zip(pairs, crossings, strict=True)]
    return [Contrast(SCALE * value, SCALE * float(np.sqrt(variance))) for value, variance in found]


def _apart(pairs: _Pairs, across: _Crossing) -> tuple[float, float]:
    """Return a difference to a reference drawn apart, and its variance."""
    variance = pairs.variance_given(across.rows) + across.variance_of_reference
    return pairs.mean - 2 * float(across.rows.mean()), variance


class _Pairs:
    """Sums of a symmetric g over pairs of different rows, block by block."""

    def __init__(self, count: int) -> None:
        self._count, self._sums, self._squares = count, np.zeros(count), 0.0
        self._centre: float | None = None

    def add(self, block: slice, g: Array) -> None:
        """Take g [B, N] of some rows with all rows."""
        if self._centre is None:  # any constant near g keeps the sums of squares from cancelling
            self._centre = float(g.mean())
        g = g - self._centre
        g[np.arange(len(g)), np.arange(self._count)[block]] = 0.0
        self._sums[block] = g.sum(1)
        self._squares += float(np.einsum("ij,ij->", g, g))

    @property
    def mean(self) -> float:
        """The U-statistic."""
        pairs = self._count * (self._count - 1)
        return (self._centre or 0.0) + float(self._sums.sum()) / pairs

    @property
    def variance(self) -> float:
        """Its variance over draws of the rows, estimated without bias."""
        return _variance(self._sums, self._squares)

    def variance_given(self, means: Array) -> float:
        """Return the variance for g(i, j) - means_i - means_j, from the sums over g alone."""
        n, means = self._count, means - means.mean()
        sums = self._sums - (n - 2) * means
        squares = self._squares - 4 * means @ self._sums + 2 * (n - 2) * means @ means
        return _variance(sums, float(squares))


class _Crossing:
    """Sums over all pairs of a row and a row of the reference of f, the part of a difference."""

    def __init__(self, rows: int, others: int) -> None:
        self.rows, self.others = np.zeros(rows), np.zeros(others)
        """Means of f by row, and by row of the reference."""
        self._squares = 0.0

    def add(self, block: slice, f: Array) -> None:
        """Take f [B, M] of some rows with the whole reference."""
        self.rows[block] = f.mean(1)
        self.others += f.sum(0) / len(self.rows)
        self._squares += float(np.einsum("ij,ij->", f, f))

    @property
    def variance_of_pairs(self) -> float:
        """What the pairs themselves add to the variance of the mean of -2 f, beyond their rows."""
        n, m = len(self.rows), len(self.others)
        mean = float(self.rows.mean())
        by_rows, by_others = self.rows - mean, self.others - mean
        rest = self._squares - n * m * mean**2 - m * by_rows @ by_rows - n * by_others @ by_others
        return 4 * max(0.0, float(rest)) / ((n - 1) * (m - 1)) / (n * m)

    @property
    def variance_of_reference(self) -> float:
        """What the rows of the reference add; the pairs are in the variance over rows already."""
        whole = 4 * float(np.var(self.others, ddof=1)) / len(self.others)
        return max(0.0, whole - self.variance_of_pairs)


def _crossings(sets: Sequence[Array], reference: Reference) -> list[_Crossing]:
    """Return the crossing of a single set, or of the first minus each of the others."""
    n, others = len(sets[0]), reference.rows
    found = [_Crossing(n, len(others)) for _ in sets[1:] or sets]
    for block in _slices(n):
        own, *rest = (reference.kernel(x[block] @ others.T, others.shape[1]) for x in sets)
        for crossing, f in zip(found, [own - other for other in rest] or [own], strict=True):
            crossing.add(block, f)
    return found


def _pairs_of(rows: Array, kernel: Kernel) -> _Pairs:
    pairs = _Pairs(len(rows))
    for block in _slices(len(rows)):
        pairs.add(block, kernel(rows[block] @ rows.T, rows.shape[1]))
    return pairs


def _within(rows: Array, reference: Reference) -> Iterator[tuple[slice, Array]]:
    """Yield k(a_i, a_j)."""
    for block in _slices(len(rows)):
        yield block, reference.kernel(rows[block] @ rows.T, rows.shape[1])


def _in_pairs(rows: Array, reference: Reference) -> Iterator[tuple[slice, Array]]:
    """Yield g(i, j) = k(a_i, a_j) - k(a_i, r_j) - k(a_j, r_i)."""
    others, width = reference.rows, rows.shape[1]
    for block in _slices(len(rows)):
        g = reference.kernel(rows[block] @ rows.T, width)
        g -= reference.kernel(rows[block] @ others.T, width)
        g -= reference.kernel(others[block] @ rows.T, width)
        yield block, g


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


def _row_means(rows: Array, reference: Reference) -> Array:
    """Return the mean kernel of each row with the reference's, float64 [N]."""
    others, width = reference.rows, rows.shape[1]
    sums = np.concatenate(
        [reference.kernel(rows[b] @ others.T, width).sum(1) for b in _slices(len(rows))]
    )
    if not reference.matched:
        return np.asarray(sums / len(others))
    own = reference.kernel(np.sum(rows * others, 1), width)
    return np.asarray((sums - own) / (len(others) - 1))


def _slices(count: int) -> Iterator[slice]:
    for start in range(0, count, _BLOCK):
        yield slice(start, min(start + _BLOCK, count))
