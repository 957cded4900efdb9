"""Distances, errors and the CLIP score, against closed forms and other implementations."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from numpy.typing import NDArray

from lcm_lora.evaluation.clip_score import clip_scores
from lcm_lora.evaluation.frechet import frechet_distance
from lcm_lora.evaluation.kernel import kernel_distance, kernel_standard_error

Array = NDArray[np.float64]


def normal(seed: int, rows: int, width: int, scale: float = 1.0) -> Array:
    return scale * np.random.default_rng(seed).normal(size=(rows, width))


def with_covariance(factor: Array, mean: Array, seed: int) -> Array:
    """Return rows of exactly the sample mean `mean` and the covariance factor.T @ factor."""
    rows = normal(seed, 400, len(mean))
    rows -= rows.mean(0)
    white = rows @ np.linalg.inv(np.linalg.cholesky(np.cov(rows, rowvar=False))).T
    return np.asarray(white @ factor + mean)


def test_equal_covariances_leave_the_squared_distance_of_the_means() -> None:
    rows, shift = normal(0, 300, 16), np.linspace(-1, 2, 16)
    assert frechet_distance(rows, rows + shift) == pytest.approx(shift @ shift, rel=1e-9)


def test_diagonal_covariances_compare_standard_deviations() -> None:
    a, b = np.linspace(0.1, 3, 12), np.linspace(2, 0.5, 12)
    zero = np.zeros(12)
    distance = frechet_distance(
        with_covariance(np.diag(a), zero, 1), with_covariance(np.diag(b), zero, 2)
    )
    assert distance == pytest.approx(np.sum((a - b) ** 2), rel=1e-9)


def test_one_dimension_is_the_distance_of_mean_and_deviation() -> None:
    a, b = normal(3, 50, 1, 2.0), normal(4, 80, 1) + 5
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("rows", [8, 40, 400])
def test_rotations_change_nothing_scales_square_and_order_is_free(rows: int) -> None:
    a, b = normal(5, rows, 24), normal(6, rows, 24, 1.4) + 0.3
    distance = frechet_distance(a, b)
    rotation = scipy.linalg.qr(normal(7, 24, 24))[0]
    assert frechet_distance(a @ rotation, b @ rotation) == pytest.approx(distance, rel=1e-9)
    assert frechet_distance(3 * a, 3 * b) == pytest.approx(9 * distance, rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(distance, rel=1e-9)
    assert frechet_distance(a[::-1], b) == pytest.approx(distance, rel=1e-9)


@pytest.mark.parametrize(("rows", "width"), [(10, 64), (65, 64), (500, 64)])
def test_a_set_is_at_no_distance_from_itself(rows: int, width: int) -> None:
    a = normal(8, rows, width)
    assert 0 <= frechet_distance(a, a) < 1e-9


def test_dead_columns_change_nothing() -> None:
    a, b = normal(9, 200, 10), normal(10, 150, 10, 0.5)
    wider = [np.hstack([rows, np.zeros((len(rows), 30))]) for rows in (a, b)]
    assert frechet_distance(*wider) == pytest.approx(frechet_distance(a, b), rel=1e-9)


@pytest.mark.parametrize(("rows", "width"), [(300, 8), (300, 64), (90, 64)])
def test_it_equals_independent_implementations(rows: int, width: int) -> None:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    a, b = normal(11, rows, width), normal(12, rows + 20, width, 1.2) + 0.1
    other = fid_statistics_to_metric(
        fid_features_to_statistics(torch.from_numpy(a)),
        fid_features_to_statistics(torch.from_numpy(b)),
        verbose=False,
    )["frechet_inception_distance"]
    assert frechet_distance(a, b) == pytest.approx(other, rel=1e-6)
    sa, sb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.trace(scipy.linalg.sqrtm(sa @ sb)).real
    gap = a.mean(0) - b.mean(0)
    plain = gap @ gap + np.trace(sa) + np.trace(sb) - 2 * root
    assert frechet_distance(a, b) == pytest.approx(plain, rel=1e-6)


@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")
def test_it_equals_clean_fid() -> None:
    from cleanfid import fid

    a, b = normal(13, 300, 32), normal(14, 310, 32, 1.2) + 0.1
    assert frechet_distance(a, b) == pytest.approx(fid.fid_from_feats(a, b), rel=1e-6)


def test_float32_features_are_computed_in_float64() -> None:
    a, b = normal(15, 200, 16).astype(np.float32), normal(16, 200, 16).astype(np.float32)
    exact = frechet_distance(a.astype(np.float64), b.astype(np.float64))
    assert frechet_distance(a, b) == exact


def naive_kernel_distance(a: Array, b: Array) -> float:
    def k(x: Array, y: Array) -> float:
        return float((x @ y / len(x) + 1) ** 3)

    def within(rows: Array) -> float:
        pairs = [(i, j) for i in range(len(rows)) for j in range(len(rows)) if i != j]
        return sum(k(rows[i], rows[j]) for i, j in pairs) / len(pairs)

    across = sum(k(x, y) for x in a for y in b) / (len(a) * len(b))
    return 1000 * (within(a) + within(b) - 2 * across)


def test_the_kernel_distance_equals_a_double_loop() -> None:
    a, b = normal(20, 17, 5), normal(21, 23, 5, 1.5)
    assert kernel_distance(a, b) == pytest.approx(naive_kernel_distance(a, b), rel=1e-10)


@pytest.mark.parametrize("matched", [False, True])
def test_the_kernel_distance_equals_torch_fidelity(matched: bool) -> None:
    from torch_fidelity.metric_kid import kernel_poly, mmd2

    a, b = normal(22, 200, 32), normal(23, 200, 32, 1.3)
    cubic = {
        "kid_kernel_poly_degree": 3,
        "kid_kernel_poly_gamma": None,
        "kid_kernel_poly_coef0": 1,
    }
    pairs = ((a, a), (a, b), (b, b))
    estimate = "u-statistic" if matched else "unbiased"
    other = 1000 * mmd2(*(kernel_poly(x, y, **cubic) for x, y in pairs), mmd_est=estimate)
    assert kernel_distance(a, b, matched) == pytest.approx(other, rel=1e-9)


def test_blocks_do_not_change_the_kernel_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = normal(24, 50, 6), normal(25, 61, 6, 1.3)
    whole = kernel_distance(a, b), kernel_standard_error(a, b)
    monkeypatch.setattr("lcm_lora.evaluation.kernel._BLOCK", 7)
    assert (kernel_distance(a, b), kernel_standard_error(a, b)) == pytest.approx(whole, rel=1e-9)


def test_the_kernel_distance_has_no_bias() -> None:
    values = [kernel_distance(normal(2 * s, 30, 8), normal(2 * s + 1, 40, 8)) for s in range(300)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))
    assert min(values) < 0 < max(values)


def test_the_kernel_distance_of_matched_rows_has_no_bias() -> None:
    """Each row resembles its partner; unmatched, that likeness would pass for nearness."""
    values, naive = [], []
    for s in range(300):
        common = normal(3 * s, 30, 8)
        a, b = common + normal(3 * s + 1, 30, 8), common + normal(3 * s + 2, 30, 8)
        values.append(kernel_distance(a, b, matched=True))
        naive.append(kernel_distance(a, b))
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))
    assert np.mean(naive) < -3 * np.std(naive) / np.sqrt(len(naive))


@pytest.mark.parametrize("scale", [1.0, 1.3])
def test_the_kernel_standard_error_is_the_spread_over_new_draws(scale: float) -> None:
    """Holds where both laws are equal, and single rows carry no signal, as where they differ."""
    reference = normal(30, 120, 8)
    draws = [normal(1000 + s, 100, 8, scale) for s in range(300)]
    spread = np.std([kernel_distance(rows, reference) for rows in draws], ddof=1)
    squared = np.mean([kernel_standard_error(rows, reference) ** 2 for rows in draws])
    assert np.sqrt(squared) == pytest.approx(spread, rel=0.15)


def test_constant_features_have_no_kernel_error() -> None:
    assert kernel_standard_error(np.ones((9, 4)), normal(31, 20, 4)) == pytest.approx(0, abs=1e-6)


def test_clip_scores_of_orthogonal_parallel_and_opposite_pairs() -> None:
    picture = normal(40, 1, 8)
    across = normal(41, 1, 8)
    across -= picture * np.sum(across * picture) / np.sum(picture**2)
    pictures = np.vstack([picture] * 4)
    captions = np.vstack([across, 7 * picture, -picture, 0 * picture])
    assert clip_scores(pictures, captions) == pytest.approx([0, 100, 0, 0], abs=1e-9)


def test_clip_scores_are_clamped_pair_by_pair() -> None:
    pictures, captions = normal(42, 500, 4), normal(43, 500, 4)
    cosines = torch.nn.functional.cosine_similarity(
        torch.from_numpy(pictures), torch.from_numpy(captions)
    ).numpy()
    scores = clip_scores(pictures, captions)
    assert scores == pytest.approx(100 * np.maximum(cosines, 0), abs=1e-9)
    assert scores.mean() > 100 * max(cosines.mean(), 0) + 5
