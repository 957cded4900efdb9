"""Intervals of differences against draws from known laws: how often they hold the truth.

Few draws of few rows; `docs/intervals.md` has many, and the command that repeats them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from bench.coverage import (
    Case,
    Found,
    by_frechet,
    by_kernel,
    by_recall,
    cases,
    kernel_truth,
    over_draws,
)
from lcm_lora.evaluation.frechet import FrechetEstimate, Law, frechet_estimate

WIDTH, DRAWS = 16, 50


def covers(found: Found, truth: float) -> bool:
    """Tell whether coverage is 90 % or more, as far as so few draws can say: two deviations."""
    return found.coverage(truth) >= 0.82


@pytest.mark.parametrize("rows_a_dimension", [1, 2, 10])
@pytest.mark.parametrize("name", cases(WIDTH))
def test_frechet_intervals_hold_the_true_difference(name: str, rows_a_dimension: int) -> None:
    case = cases(WIDTH)[name]
    found = over_draws(by_frechet, case, rows_a_dimension * WIDTH, DRAWS)
    assert covers(found, case.truth)
    # Not by being wide: no case's error is beyond what pairs counted twice would give.
    error = np.sqrt(np.mean(found.errors**2))
    assert 0.75 < error / np.std(found.differences, ddof=1) < 1.75


@pytest.mark.parametrize("name", ["equal, isotropic", "the same, paired", "a third of the modes"])
def test_kernel_intervals_hold_the_true_difference(name: str) -> None:
    case = cases(WIDTH)[name]
    found = over_draws(by_kernel, case, 2 * WIDTH, 4 * DRAWS)
    assert found.coverage(kernel_truth(case, 2 * WIDTH, 600)) >= 0.9
    error = np.sqrt(np.mean(found.errors**2))
    assert error / np.std(found.differences, ddof=1) == pytest.approx(1, abs=0.2)


@pytest.fixture(scope="module")
def example() -> tuple[Case, Found]:
    """Scales 0.8 and 1.2 about a reference of scale 1, 160 rows of 160 dimensions."""
    case = cases(160)["scales 0.8 and 1.2"]
    return case, over_draws(by_frechet, case, 160, 12)


def test_equal_distances_of_unlike_spread_are_not_told_apart(example: tuple[Case, Found]) -> None:
    """Plain values always favour the less diverse sampler, by twenty standard errors."""
    case, found = example
    assert case.truth == pytest.approx(0, abs=1e-9)
    assert found.plain.max() < -20
    assert abs(found.differences.mean()) < 0.1 * abs(found.plain.mean())
    assert sum(found.conclusions) <= 0.1
    few = frechet_estimate(*(Law.of(rows) for rows in case.draw(160, 0)[::2]), False, 0)
    assert not few.is_decisive


@pytest.mark.parametrize(("compare", "expected"), [(by_kernel, "higher"), (by_recall, "lower")])
def test_a_collapsed_sampler_is_called_worse(compare: object, expected: str) -> None:
    """A third of the modes: nearer in no Fréchet distance, farther in KID, and less is recalled."""
    collapsed = cases(48)["a third of the modes"]
    lower, higher = over_draws(compare, collapsed, 96, 8).conclusions  # type: ignore[arg-type]
    assert (lower, higher) == ((0, 1) if expected == "higher" else (1, 0))


@pytest.mark.parametrize("count", [48, 96])
def test_a_collapsed_sampler_is_never_nearer(count: int) -> None:
    collapsed = cases(48)["a third of the modes"]
    nearer, farther = over_draws(by_frechet, collapsed, count, 8).conclusions
    assert nearer == 0
    assert farther > 0.5


@pytest.mark.parametrize("count", [40, 80, 400])
def test_the_bias_is_all_there_is_of_equal_laws(count: int) -> None:
    case = cases(40)["equal, power law"]
    values, biases = np.mean([[found.value, found.bias] for found in estimates(case, count)], 0)
    assert biases == pytest.approx(values, rel=0.1)


def estimates(case: Case, count: int) -> Iterator[FrechetEstimate]:
    """Yield distances of a few draws."""
    for seed in range(8):
        a, _, reference = case.draw(count, seed)
        yield frechet_estimate(Law.of(a), Law.of(reference), matched=False, seed=0)


def test_matched_rows_share_what_they_share() -> None:
    """Rows of one prompt: of the means only what differs is bias, and nothing else is corrected."""
    rng = np.random.default_rng(0)
    common = 3 * rng.normal(size=(200, 10))
    near, far = common + rng.normal(size=common.shape), common + rng.normal(size=common.shape)
    apart, together = (
        frechet_estimate(Law.of(near), Law.of(far), matched, 0) for matched in (False, True)
    )
    assert together.bias == pytest.approx(2 * 10 * 1 / 200, rel=0.2)
    assert apart.bias > 2 * 10 * 10 / 200
    assert apart.value == together.value


@pytest.mark.parametrize("alike", [0.5, 0.9])
def test_matched_rows_of_equal_distance_are_never_called_apart(alike: float) -> None:
    """Simulated rows of a reference drawn apart would overcorrect these, to a false verdict."""
    rng = np.random.default_rng(1)
    reference = rng.normal(size=(120, 24))
    rows = alike * reference + np.sqrt(1 - alike**2) * rng.normal(size=reference.shape)
    small, large = (
        frechet_estimate(Law.of(scale * rows), Law.of(reference), True, 0) for scale in (0.8, 1.2)
    )
    assert not small.is_decisive
    assert not large.is_decisive
