"""Standard errors against the spread of new draws, and what pairing gains."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from lcm_lora.evaluation.frechet import frechet_distance
from lcm_lora.evaluation.resampling import (
    FrechetReference,
    draw_counts,
    paired_difference,
    resample_frechet,
    resample_mean,
    standard_error,
)

Array = NDArray[np.float64]


def normal(seed: int, rows: int, width: int, scale: float = 1.0) -> Array:
    return scale * np.random.default_rng(seed).normal(size=(rows, width))


@pytest.mark.parametrize(("rows", "others", "width"), [(60, 70, 8), (20, 70, 30), (60, 20, 30)])
def test_a_resample_is_the_distance_of_the_repeated_rows(
    rows: int, others: int, width: int
) -> None:
    features, reference = normal(0, rows, width) + 2, normal(1, others, width, 1.5)
    counts = draw_counts(rows, 5, seed=3)
    quick = resample_frechet(features, FrechetReference.of(reference), counts)
    slow = [
        frechet_distance(np.repeat(features, taken.astype(int), axis=0), reference)
        for taken in counts
    ]
    assert quick == pytest.approx(slow, rel=1e-6)


def test_counts_sum_to_the_number_of_prompts_and_come_from_the_seed() -> None:
    counts = draw_counts(33, 7, seed=1)
    assert counts.shape == (7, 33)
    assert np.all(counts.sum(1) == 33)
    assert np.array_equal(counts, draw_counts(33, 7, seed=1))
    assert not np.array_equal(counts, draw_counts(33, 7, seed=2))


def test_the_error_of_a_mean_is_the_textbook_one() -> None:
    values = normal(2, 400, 1)[:, 0]
    resampled = resample_mean(values, draw_counts(400, 4000, seed=0))
    assert standard_error(resampled) == pytest.approx(values.std() / np.sqrt(400), rel=0.05)


@pytest.mark.parametrize(("scale", "least", "most"), [(1.6, 0.85, 1.15), (1.0, 1.0, 1.8)])
def test_the_frechet_error_is_the_spread_over_new_draws(
    scale: float, least: float, most: float
) -> None:
    """Between different laws it is right; between equal ones it errs on the safe side."""
    raw = normal(3, 500, 16)
    reference = FrechetReference.of(raw)
    draws = [normal(100 + s, 400, 16, scale) for s in range(200)]
    spread = np.std([frechet_distance(rows, raw) for rows in draws], ddof=1)
    counts = draw_counts(400, 200, seed=0)
    errors = [standard_error(resample_frechet(rows, reference, counts)) for rows in draws[:10]]
    assert least < np.mean(errors) / spread < most


def test_resamples_lie_above_the_estimate_which_is_why_no_percentiles_are_given() -> None:
    features, other = normal(4, 300, 32), normal(5, 300, 32)
    resampled = resample_frechet(
        features, FrechetReference.of(other), draw_counts(300, 100, seed=0)
    )
    assert np.percentile(resampled, 2.5) > frechet_distance(features, other)


def test_pairing_takes_the_prompts_noise_out_of_a_difference() -> None:
    prompts = normal(6, 300, 12)
    a, b = prompts + normal(7, 300, 12, 0.2), 1.1 * prompts + normal(8, 300, 12, 0.2)
    reference = FrechetReference.of(normal(9, 300, 12))
    counts, others = draw_counts(300, 300, seed=0), draw_counts(300, 300, seed=1)
    resampled_a = resample_frechet(a, reference, counts)
    paired = standard_error(resampled_a - resample_frechet(b, reference, counts))
    unpaired = standard_error(resampled_a - resample_frechet(b, reference, others))
    assert paired < 0.6 * unpaired


def test_a_difference_is_symmetric_about_its_value_and_changes_sign_with_order() -> None:
    a, b = normal(10, 50, 1)[:, 0], normal(11, 50, 1)[:, 0]
    ab, ba = paired_difference(3.0, 1.0, a, b), paired_difference(1.0, 3.0, b, a)
    assert (ab.low + ab.high) / 2 == pytest.approx(ab.value) == 2.0
    assert (ba.value, ba.low, ba.high) == pytest.approx((-ab.value, -ab.high, -ab.low))
    assert ab.high - ab.low == pytest.approx(2 * 1.96 * np.std(a - b, ddof=1))


def test_a_sampler_does_not_differ_from_itself() -> None:
    a = normal(12, 50, 1)[:, 0]
    same = paired_difference(2.0, 2.0, a, a)
    assert (same.value, same.low, same.high) == (0, 0, 0)
