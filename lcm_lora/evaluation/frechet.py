"""The Fréchet distance between two sets of features, its bias and its standard error.

Exact and real for any number of rows, also fewer than dimensions: the trace of the root of the
product of two covariances is the nuclear norm of a product of their factors, so that no root of a
nearly singular matrix is ever taken.

Bias. A distance of few rows is too large, and the more so the more diverse the rows are, which
favours a sampler that lost some of the law. So differences are taken of corrected values: the part
of the means is exact, that of the overlap is simulated (`overlap`).

Standard error. The distance changes with one row by its influence, |x - m_r|^2 less twice the
row's share of the overlap; the spread of influences over rows, of the sampler and of the reference,
gives the variance (infinitesimal jackknife). Where both laws are nearly equal a distance is made
of pairs of rows, of which influences count each twice: for normal rows that part is known from the
spectrum, and its half is taken off.

Rows of one prompt in both sets, as pictures and the teacher's are, are alike, and simulated rows
are not: how much less the overlap then loses is not known. So matched rows get no correction of it,
and such a distance calls nothing better or worse; the kernel distance does.

A twentieth of the biases' difference is added as an error of its own: normal rows are a model. Of
fewer rows than dimensions the modes that were not seen may hold anything, so all of it is added;
and below two rows a dimension, where the expansion in rows and pairs fails, no Fréchet distance
calls anything better or worse.

Legend: N rows of features, D dimensions, r = min(N, D).
Source: Heusel et al. 2017; Dowson and Landau 1982; Jaeckel 1972 (infinitesimal jackknife); Efron
and Stein 1981 (why it counts pairs twice). Shown by simulation in docs/intervals.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lcm_lora.evaluation.overlap import Overlap, Shape, correct_overlap

Array = NDArray[np.float64]

DECISIVE = 2
"""Rows a dimension from which on a difference may be called better or worse."""

_UNCERTAIN = 0.05
"""Share of an estimated bias that may be wrong, as a standard error."""


def frechet_distance(a: ArrayLike, b: ArrayLike) -> float:
    """Return |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), never below 0.

    Args:
        a: Features [N, D] with N >= 2; computed in float64.
        b: Features of the other set, same D.
    """
    one, other = Law.of(a), Law.of(b)
    return _distance(one, other, float(np.linalg.norm(one.factor @ other.factor.T, "nuc")))


def _distance(a: Law, b: Law, overlap: float) -> float:
    gap = a.mean - b.mean
    return max(0.0, float(gap @ gap) + a.variance + b.variance - 2 * overlap)


@dataclass(frozen=True, slots=True, eq=False)
class Law:
    """A set of features prepared for distances to several others."""

    mean: Array
    centred: Array
    """Rows [N, D] less their mean."""
    turn: Array | None
    """Q [N, D] of centred = Q factor (N - 1)^(1/2); None where the factor is the rows."""
    factor: Array
    """F [r, D] of the unbiased covariance: F.T @ F."""

    @classmethod
    def of(cls, features: ArrayLike) -> Self:
        """Factor the covariance of features [N, D]."""
        rows = np.asarray(features, np.float64)
        mean = rows.mean(0)
        centred = rows - mean
        scaled = centred / np.sqrt(len(rows) - 1)
        if rows.shape[0] > rows.shape[1]:
            # A rotation of the rows leaves F.T @ F and every nuclear norm as they are.
            return cls(mean, centred, *np.linalg.qr(scaled))
        return cls(mean, centred, None, scaled)

    @property
    def count(self) -> int:
        """N."""
        return len(self.centred)

    @property
    def variance(self) -> float:
        """The trace of the covariance."""
        return float(np.sum(self.factor**2))

    def shares(self, vectors: Array, weights: Array) -> Array:
        """Return N sum_k u_ik^2 w_k of left singular vectors u [r, K] of the factor, as of rows."""
        turned = vectors if self.turn is None else self.turn @ vectors
        return np.asarray(self.count * (turned**2 @ weights))


@dataclass(frozen=True, slots=True, eq=False)
class FrechetEstimate:
    """A distance, what the number of rows adds to it, and what each row does to it."""

    value: float
    bias: float
    rows: Array
    """Influences of the sampler's rows [N]; of matched rows, the reference's are added."""
    others: Array | None
    """Influences of the reference's rows [M], if drawn apart."""
    curvature: float
    """E q^2 of pairs of the sampler's rows, q the second derivative of the distance."""
    width: int
    is_matched: bool
    """Row i of both sets is of one prompt."""

    @property
    def is_decisive(self) -> bool:
        """Whether anything can be concluded: of rows drawn apart, and enough of them."""
        return not self.is_matched and len(self.rows) >= DECISIVE * self.width

    @property
    def se(self) -> float:
        """The standard error of the value."""
        count = len(self.rows)
        linear = _variance_of_mean(self.rows)
        linear += 0.0 if self.others is None else _variance_of_mean(self.others)
        # Pairs of the sampler, of the reference and across them: 1/2 + 1/2 + 1.
        twice = 2 * self.curvature / count**2
        return _error(linear, twice, self.is_decisive)


def frechet_estimate(a: Law, r: Law, matched: bool, seed: int) -> FrechetEstimate:
    """Return the Fréchet distance of two laws with its bias and influences.

    Args:
        a: The sampler's.
        r: The reference's, same D.
        matched: Row i of both is of one prompt.
        seed: Of the simulation of the bias.
    """
    left, singular, right = _singular(a.factor @ r.factor.T)
    gap, width = a.mean - r.mean, a.centred.shape[1]
    total = float(singular.sum())
    shape = Shape(a.count, r.count, width, seed)
    overlap = Overlap(1.0, 0.0) if matched else correct_overlap(singular, shape)
    bias = _bias_of_means(a, r, matched) + 2 * (overlap.ratio - 1) * total
    weights = overlap.ratio * singular
    rows = _lengths(a.centred) + 2 * a.centred @ gap - a.shares(left, weights)
    others = _lengths(r.centred) - 2 * r.centred @ gap - r.shares(right, weights)
    value = _distance(a, r, total)
    if matched:
        return FrechetEstimate(value, bias, rows + others, None, 0.0, width, True)
    # Below, pairs are not told from rows, and their sum would cost as much as the distance.
    curvature = overlap.curvature + 4 * _squares(a) if a.count >= DECISIVE * width else 0.0
    return FrechetEstimate(value, bias, rows, others, curvature, width, False)


def frechet_error(a: FrechetEstimate, b: FrechetEstimate, likeness: float) -> float:
    """Return the standard error of the difference of corrected distances to one reference.

    Args:
        a: Of one sampler.
        b: Of another, over the same prompts and the same reference.
        likeness: Of their rows, see `likeness`.
    """
    count = len(a.rows)
    linear = _variance_of_mean(a.rows - b.rows)
    if a.others is not None and b.others is not None:
        linear += _variance_of_mean(a.others - b.others)
    sides, both = a.curvature + b.curvature, 2 * np.sqrt(a.curvature * b.curvature)
    # Pairs of the sampler's rows, halved; and pairs with the reference, which both share.
    twice = (sides - likeness**2 * both) / 2 + (sides - likeness * both)
    error = _error(linear, twice / count**2, a.is_decisive)
    if a.value == b.value and np.array_equal(a.rows, b.rows):
        return 0.0
    uncertain = _UNCERTAIN if count >= a.width else 1.0
    return float(np.hypot(error, uncertain * (a.bias - b.bias)))


def likeness(a: Law, b: Law) -> float:
    """Return |C|^2 / (|S_a| |S_b|), C the covariance across: 1 of equal rows, 0 of strange.

    Over different rows i and j only, so that few rows do not pass for likeness.
    """
    across = _different(a.centred, b.centred)
    alone = _different(a.centred, a.centred) * _different(b.centred, b.centred)
    return float(np.clip(across / np.sqrt(alone), 0, 1)) if alone > 0 else 0.0


def _different(a: Array, b: Array) -> float:
    """Return the sum of (a_i . a_j) (b_i . b_j) over i != j, never below 0."""
    itself = float(_lengths(a) @ _lengths(b))
    return max(0.0, float(np.sum((a.T @ b) ** 2)) - itself)


def _error(linear: float, twice: float, is_decisive: bool) -> float:
    """Return a standard error from influences; below two rows a dimension pairs are not told."""
    if not is_decisive:
        return float(np.sqrt(linear))
    return float(np.sqrt(max(linear - twice, linear / 2)))


def _singular(product: Array) -> tuple[Array, Array, Array]:
    """Return left vectors [p, K], singular values [K] and right vectors [q, K] of a product [p, q].

    By the eigenvectors of product product^T, three times as quick as a singular value
    decomposition; values are lengths of turned rows, exact also where squares would cancel.
    """
    if product.shape[0] > product.shape[1]:
        right, singular, left = _singular(product.T)
        return left, singular, right
    vectors = np.linalg.eigh(product @ product.T)[1][:, ::-1]
    turned = vectors.T @ product
    singular = np.linalg.norm(turned, axis=1)
    unit = np.divide(turned, singular[:, None], out=turned, where=singular[:, None] > 0)
    return vectors, singular, unit.T


def _bias_of_means(a: Law, r: Law, matched: bool) -> float:
    """Return the expectation of |mu_a - mu_r|^2 beyond its true value."""
    if matched:
        return float(np.sum((a.centred - r.centred) ** 2)) / (a.count - 1) / a.count
    return a.variance / a.count + r.variance / r.count


def _squares(a: Law) -> float:
    """Return tr S^2, estimated without bias for many rows."""
    return _different(a.centred, a.centred) / (a.count * (a.count - 1))


def _lengths(rows: Array) -> Array:
    return np.asarray(np.einsum("ij,ij->i", rows, rows))


def _variance_of_mean(influences: Array) -> float:
    return float(np.var(influences, ddof=1)) / len(influences)
