"""Standard errors and paired differences by resampling prompts.

All cells of a table are resampled with the same prompts, so that what a hard prompt does to two
samplers alike cancels in their difference. Only the spread of the resamples is used, never their
percentiles: repeated rows shift the centre of a resampled Fréchet distance upwards. Between sets of
nearly one law, where that distance is mostly bias, its standard error comes out up to 1.7 times too
large; it errs on the safe side.

Legend: N prompts (rows of features), D dimensions, R resamples.
Source: Efron 1979.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lcm_lora.evaluation.frechet import covariance_factor

Array = NDArray[np.float64]

Z = 1.96
"""Standard errors either side of a value that make a 95 % interval."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference of two values and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class FrechetReference:
    """The fixed side of a Fréchet distance: `mean` [D] and a `factor` [r, D] of the covariance."""

    mean: Array
    factor: Array

    @classmethod
    def of(cls, features: ArrayLike) -> Self:
        """Factor the covariance of features [N, D], once for all resamples."""
        rows = np.asarray(features, np.float64)
        return cls(rows.mean(0), covariance_factor(rows))


def draw_counts(count: int, resamples: int, seed: int) -> Array:
    """Return how often each resample takes each prompt, whole numbers as float64 [R, N]."""
    chances = np.full(count, 1 / count)
    return (
        np.random.default_rng(seed).multinomial(count, chances, size=resamples).astype(np.float64)
    )


def resample_mean(values: ArrayLike, counts: Array) -> Array:
    """Return the mean of values [N] in each resample, float64 [R]."""
    return np.asarray(counts @ np.asarray(values, np.float64) / counts.shape[1])


def resample_frechet(features: ArrayLike, reference: FrechetReference, counts: Array) -> Array:
    """Return the distance of each resample of features [N, D] to the reference, float64 [R].

    With S = F.T F of the reference and C of the resample, the eigenvalues of F C F.T are those of
    C S; so rows are mapped by F once, and a resample costs one product and one set of eigenvalues.
    """
    rows = np.asarray(features, np.float64)
    n = len(rows)
    centre = rows.mean(0)
    rows = rows - centre
    mapped = rows @ reference.factor.T
    lengths = np.sum(rows**2, 1)
    constant = float(np.sum(reference.factor**2))
    distances = np.empty(len(counts))
    for i, taken in enumerate(counts):
        drawn = taken > 0  # in a third of the rows nothing is to do
        weights = taken[drawn] / (n - 1)
        mean = taken @ rows / n
        trace = weights @ lengths[drawn] - mean @ mean * n / (n - 1)
        mapped_mean = reference.factor @ mean
        product = (mapped[drawn] * weights[:, None]).T @ mapped[drawn]
        product -= np.outer(mapped_mean, mapped_mean) * n / (n - 1)
        roots = np.sqrt(np.linalg.eigvalsh(product).clip(0))
        gap = mean + centre - reference.mean
        distances[i] = gap @ gap + trace + constant - 2 * roots.sum()
    return distances.clip(0)


def standard_error(resampled: Array) -> float:
    """Return the standard deviation over resamples [R]."""
    return float(np.std(resampled, ddof=1))


def paired_difference(a: float, b: float, resampled_a: Array, resampled_b: Array) -> Difference:
    """Return a - b with its normal interval; both sides' resamples [R] took the same prompts."""
    half = Z * standard_error(resampled_a - resampled_b)
    return Difference(a - b, a - b - half, a - b + half)
