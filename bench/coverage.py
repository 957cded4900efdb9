"""How often the intervals of differences hold the truth, and how a collapsed sampler is judged.

Two samplers and a reference are drawn again and again from laws whose distances are known, and each
time
compared as a table compares them, at a nominal 95 %. `docs/intervals.md` quotes what is printed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lcm_lora.evaluation.frechet import Law, frechet_error, frechet_estimate, likeness
from lcm_lora.evaluation.kernel import Reference, kernel_differences, kernel_distance
from lcm_lora.evaluation.neighbours import Region

Array = NDArray[np.float64]
Z = 1.96


@dataclass(frozen=True, slots=True, eq=False)
class Normal:
    """Normal rows: standard deviations [D] and a mean shift of every dimension."""

    deviations: Array
    shift: float = 0.0

    def rows(self, prompts: Array, rng: np.random.Generator, shared: float) -> Array:
        """Return rows [N, D] which share so much of prompts [N, D], 0..1, as a correlation."""
        own = rng.normal(size=prompts.shape)
        return self.shift + (shared * prompts + np.sqrt(1 - shared**2) * own) * self.deviations

    @property
    def moments(self) -> tuple[Array, Array]:
        """Mean [D] and covariance [D, D]."""
        return np.full(len(self.deviations), self.shift), np.diag(self.deviations**2)


@dataclass(frozen=True, slots=True, eq=False)
class Modes:
    """Rows about the first `kept` of 30 modes, all alike likely; the world has all."""

    width: int
    kept: int = 30

    def rows(self, prompts: Array, rng: np.random.Generator, shared: float) -> Array:
        """Return rows [N, D]; which mode a row is of depends on no prompt."""
        drawn = self._centres[rng.integers(0, self.kept, len(prompts))]
        return np.asarray(drawn + 0.5 * rng.normal(size=prompts.shape))

    @property
    def moments(self) -> tuple[Array, Array]:
        """Mean [D] and covariance [D, D]."""
        kept = self._centres[: self.kept]
        spread = kept - kept.mean(0)
        return kept.mean(0), spread.T @ spread / self.kept + 0.25 * np.eye(self.width)

    @property
    def _centres(self) -> Array:
        return np.random.default_rng(9).normal(size=(30, self.width))


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """Two samplers a and b, the reference, and how much rows of one prompt share."""

    a: Any
    b: Any
    reference: Any
    shared: float

    @property
    def truth(self) -> float:
        """The difference of the true Fréchet distances."""
        return exact(self.a, self.reference) - exact(self.b, self.reference)

    def draw(self, count: int, seed: int) -> tuple[Array, Array, Array]:
        """Return rows of both samplers and of the reference, which is of other prompts."""
        rng = np.random.default_rng(seed)
        width = len(self.reference.moments[0])
        prompts, others = rng.normal(size=(2, count, width))
        a, b = (law.rows(prompts, rng, self.shared) for law in (self.a, self.b))
        return a, b, self.reference.rows(others, rng, 0.0)


def exact(one: Any, other: Any) -> float:
    """Return the Fréchet distance of two laws."""
    (mean, covariance), (mean_other, covariance_other) = one.moments, other.moments
    values, vectors = np.linalg.eigh(covariance_other)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    overlap = np.sqrt(np.linalg.eigvalsh(root @ covariance @ root).clip(0)).sum()
    gap = mean - mean_other
    return float(gap @ gap + np.trace(covariance) + np.trace(covariance_other) - 2 * overlap)


def cases(width: int) -> dict[str, Case]:
    """Return the cases that are shown, of D dimensions."""
    ranks = np.arange(1, width + 1)
    even, falling = np.ones(width), np.sqrt(width / ranks / np.sum(1 / ranks))
    few = np.where(ranks <= width // 10, 3.0, 0.03)
    return {
        "equal, isotropic": Case(Normal(even), Normal(even), Normal(even), 0.5),
        "equal, power law": Case(Normal(falling), Normal(falling), Normal(falling), 0.5),
        "equal, 30 modes": Case(Modes(width), Modes(width), Modes(width), 0.0),
        "scales 0.8 and 1.2": Case(Normal(0.8 * even), Normal(1.2 * even), Normal(even), 0.0),
        "the same, paired": Case(Normal(0.8 * even), Normal(1.2 * even), Normal(even), 0.7),
        "scales, power law": Case(
            Normal(0.8 * falling), Normal(1.2 * falling), Normal(falling), 0.5
        ),
        "scales, few modes": Case(Normal(0.8 * few), Normal(1.2 * few), Normal(few), 0.5),
        "shifted": Case(Normal(falling, 0.1), Normal(falling, 0.3), Normal(falling), 0.5),
        "a third of the modes": Case(Modes(width, 10), Modes(width), Modes(width), 0.0),
    }


@dataclass(frozen=True, slots=True)
class Found:
    """Differences over many draws, and their standard errors."""

    differences: Array
    errors: Array
    plain: Array
    """Differences with their bias, for comparison."""

    def coverage(self, truth: float) -> float:
        """Return how often an interval holds the truth."""
        return float(np.mean(np.abs(self.differences - truth) < Z * self.errors))

    @property
    def conclusions(self) -> tuple[float, float]:
        """How often `a` would be called nearer, and how often farther."""
        half = Z * self.errors
        nearer, farther = self.differences + half < 0, self.differences - half > 0
        return float(nearer.mean()), float(farther.mean())


def over_draws(
    compare: Callable[[Array, Array, Array], tuple[float, float, float]],
    case: Case,
    count: int,
    draws: int,
) -> Found:
    """Compare the samplers of a case in many draws of N rows."""
    found = np.array([compare(*case.draw(count, seed)) for seed in range(draws)])
    return Found(found[:, 0], found[:, 1], found[:, 2])


def by_frechet(a: Array, b: Array, reference: Array) -> tuple[float, float, float]:
    """Return the difference without bias, its error, and the plain difference."""
    laws = [Law.of(rows) for rows in (a, b, reference)]
    one, other = (frechet_estimate(law, laws[2], matched=False, seed=0) for law in laws[:2])
    plain = one.value - other.value
    alike = likeness(laws[0], laws[1])
    return plain - one.bias + other.bias, frechet_error(one, other, alike), plain


def by_kernel(a: Array, b: Array, reference: Array) -> tuple[float, float, float]:
    """Return the difference of kernel distances, its error, and the difference again."""
    (found,) = kernel_differences(a, [b], Reference(reference, matched=False))
    return found.value, found.se, found.value


def by_recall(a: Array, b: Array, reference: Array) -> tuple[float, float, float]:
    """Return the difference of recalls, its error, and the difference again."""
    one, other = (Region.of(rows).share(reference) for rows in (a, b))
    parts = (one.inside - other.inside, one.pseudo - other.pseudo)
    error = np.sqrt(sum(np.var(part, ddof=1) / len(part) for part in parts))
    return one.value - other.value, float(error), one.value - other.value


def kernel_truth(case: Case, count: int, draws: int) -> float:
    """Return the mean difference of kernel distances over many more draws; it has no bias."""
    drawn = (case.draw(count, 10_000 + seed) for seed in range(draws))
    return float(np.mean([kernel_distance(a, r) - kernel_distance(b, r) for a, b, r in drawn]))


def lines(width: int, rows_a_dimension: int, draws: int) -> Iterator[str]:
    """Yield a line of a Markdown table for each case."""
    count = rows_a_dimension * width
    for name, case in cases(width).items():
        found = over_draws(by_frechet, case, count, draws)
        kernel = over_draws(by_kernel, case, count, draws)
        truth, kernel_mean = case.truth, kernel_truth(case, count, draws)
        spread = np.std(found.differences, ddof=1)
        error = np.sqrt(np.mean(found.errors**2))
        yield (
            f"| {name} | {width} | {count} | {truth:.2f} | {found.plain.mean():.2f} |"
            f" {found.differences.mean():.2f} | {spread:.2f} | {error:.2f} |"
            f" {100 * found.coverage(truth):.0f} % | {100 * kernel.coverage(kernel_mean):.0f} % |"
        )


def main(draws: int) -> None:
    """Print the tables of docs/intervals.md."""
    print("| case | D | N | true | plain | corrected | spread | error | covers | KID covers |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for width, rows_a_dimension, share in ((48, 1, 1), (48, 2, 1), (48, 10, 1), (160, 1, 3)):
        for line in lines(width, rows_a_dimension, draws // share):
            print(line, flush=True)
    collapsed = cases(48)["a third of the modes"]
    for name, compare in (("FD", by_frechet), ("KID", by_kernel), ("recall", by_recall)):
        lower, higher = over_draws(compare, collapsed, 96, draws).conclusions
        print(f"collapsed, {name}: lower in {100 * lower:.0f} %, higher in {100 * higher:.0f} %")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 150)
