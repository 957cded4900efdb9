"""Distances, errors and the CLIP score, against closed forms and other implementations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.linalg
import torch
from numpy.typing import NDArray

from lcm_lora.evaluation.diversity import diversity
from lcm_lora.evaluation.frechet import Law, frechet_distance, frechet_estimate
from lcm_lora.evaluation.kernel import (
    Reference,
    gaussian,
    kernel_differences,
    kernel_distance,
    kernel_estimate,
    kernel_standard_error,
    unit_rows,
)
from lcm_lora.evaluation.neighbours import Region
from lcm_lora.seeing.clip_score import clip_scores

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


@pytest.mark.parametrize(("rows", "width"), [(30, 8), (40, 64), (200, 64)])
def test_an_estimate_holds_the_same_distance(rows: int, width: int) -> None:
    a, b = normal(17, rows, width), normal(18, rows, width, 1.3) + 0.2
    found = frechet_estimate(Law.of(a), Law.of(b), matched=False, seed=0)
    assert found.value == pytest.approx(frechet_distance(a, b), rel=1e-9)


@pytest.mark.parametrize("width", [4, 30])
def test_influences_are_what_one_row_more_does(width: int) -> None:
    """The derivative of the distance to a row's weight, of either side, but for the bias."""
    a, b = normal(19, 80, width), normal(20, 70, width, 1.4) + 0.1
    found = frechet_estimate(Law.of(a), Law.of(b), matched=False, seed=0)
    assert found.others is not None
    for influences, change in (
        (found.rows, lambda i: frechet_distance(np.delete(a, i, 0), b)),
        (found.others, lambda i: frechet_distance(a, np.delete(b, i, 0))),
    ):
        without = np.array([change(i) for i in range(30)])
        expected = -(len(influences) - 1) * (without - found.value)
        assert np.corrcoef(influences[:30], expected)[0, 1] > 0.98


def test_the_golden_numbers_of_the_first_tables_stand() -> None:
    """Computed by the code that the first tables came from."""
    rng = np.random.default_rng(2026)
    real = rng.normal(size=(40, 6)).astype(np.float32)
    reference = (rng.normal(size=(40, 6)) * 1.1 + 0.2).astype(np.float32)
    a = (real * 0.9 + 0.3 * rng.normal(size=(40, 6))).astype(np.float32)
    assert frechet_distance(a, reference) == pytest.approx(0.7827294370220717, rel=1e-12)
    assert kernel_distance(a, reference) == pytest.approx(-82.76067847658553, rel=1e-12)
    assert kernel_distance(a, real, True) == pytest.approx(4.417313666567946, rel=1e-10)
    assert kernel_standard_error(a, reference) == pytest.approx(146.85476168846455, rel=1e-12)


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


@pytest.mark.parametrize("matched", [False, True])
def test_estimates_and_differences_hold_the_same_kernel_distances(matched: bool) -> None:
    a, b, r = (normal(50 + i, 60, 8, 1 + i / 5) for i in range(3))
    reference = Reference(r, matched)
    one, other = (kernel_distance(rows, r, matched) for rows in (a, b))
    assert kernel_estimate(a, reference).value == pytest.approx(one, rel=1e-9)
    (difference, none) = kernel_differences(a, [b, a], reference)
    assert difference.value == pytest.approx(one - other, rel=1e-9)
    assert (none.value, none.se) == (0, 0)


def test_the_variance_of_a_matched_difference_is_that_of_one_u_statistic() -> None:
    """Against sums over all fours of rows, which nothing here adds up alike."""
    a, b, r = (normal(60 + i, 9, 3, 1 + i / 5) for i in range(3))

    def k(x: Array, y: Array) -> Array:
        return np.asarray((x @ y.T / 3 + 1) ** 3)

    h = k(a, a) - k(a, r) - k(r, a) - (k(b, b) - k(b, r) - k(r, b))
    n = len(h)
    fours = [
        (h[i, j] ** 2, h[i, j] * h[i, k], h[i, j] * h[k, m])
        for i, j, k, m in itertools.permutations(range(n), 4)
    ]
    squared, one_shared, none_shared = np.mean(fours, axis=0)
    both, single = squared - none_shared, max(0, one_shared - none_shared)
    variance = (2 * both + 4 * (n - 2) * single) / (n * (n - 1))
    (found,) = kernel_differences(a, [b], Reference(r, matched=True))
    assert found.se == pytest.approx(1000 * np.sqrt(variance), rel=1e-9)


def test_cmmd_is_the_published_one_without_its_bias() -> None:
    """The published V-statistic also pairs every row with itself, which adds 1 - mean k over N."""
    a, b = unit_rows(normal(70, 40, 16)), unit_rows(normal(71, 40, 16) + 0.3)

    def mean(x: Array, y: Array) -> float:
        squared = np.sum((x[:, None] - y[None]) ** 2, -1)
        return float(np.exp(-squared / (2 * 10**2)).mean())

    published = 1000 * (mean(a, a) + mean(b, b) - 2 * mean(a, b))
    pairs = [(40 * mean(x, x) - 1) / 39 for x in (a, b)]
    unbiased = published - 1000 * sum(1 - pair for pair in pairs) / 40
    assert kernel_distance(a, b, kernel=gaussian) == pytest.approx(unbiased, rel=1e-6)


@pytest.mark.parametrize("rows", [30, 200])
def test_precision_and_recall_equal_torch_fidelity(rows: int) -> None:
    from torch_fidelity.metric_prc import prc_features_to_metric

    real, generated = normal(80, rows, 6), normal(81, rows, 6, 0.7) + 0.3
    other = prc_features_to_metric(
        torch.from_numpy(generated), torch.from_numpy(real), prc_neighborhood=3, verbose=False
    )
    precision = Region.of(real).share(generated).value
    recall = Region.of(generated).share(real).value
    assert (precision, recall) == pytest.approx((other["precision"], other["recall"]), abs=1e-6)
    assert recall < precision


def test_a_region_without_a_group_is_that_of_the_other_rows() -> None:
    region, rows = normal(82, 60, 3), normal(83, 50, 3, 1.5)
    share = Region.of(region).share(rows)
    without = Region.of(region[np.arange(60) % 20 != 4]).share(rows).value
    assert share.pseudo[4] == pytest.approx(20 * share.value - 19 * without)


def test_neighbours_of_one_group_alone_are_looked_for_farther() -> None:
    """Rows of a group lie together, so that without it nothing that is near is left."""
    region = normal(84, 400, 3, 0.1) + 50 * (np.arange(400) % 20)[:, None]
    share = Region.of(region).share(normal(85, 50, 3))
    without = Region.of(region[np.arange(400) % 20 != 0]).share(normal(85, 50, 3)).value
    assert share.pseudo[0] == pytest.approx(20 * share.value - 19 * without)


def test_diversity_is_none_of_equal_pictures_and_one_of_unlike_ones() -> None:
    a = np.eye(6)[:3]
    b = np.eye(6)[3:]
    assert diversity([a, 5 * a]) == pytest.approx(np.zeros(3), abs=1e-12)
    assert diversity([a, b]) == pytest.approx(np.ones(3))
    assert diversity([a, a, b]) == pytest.approx(np.full(3, 2 / 3))


@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")
def test_where_peers_are_not_right() -> None:
    """Named, so that a number that differs from theirs is not taken for a fault of ours."""
    from cleanfid import fid
    from torch_fidelity.metric_kid import kernel_poly, mmd2

    a, b = normal(90, 200, 16), normal(91, 200, 16, 1.2)
    # clean-fid draws subsets from numpy's global state: two calls differ, about what is exact here.
    np.random.seed(0)
    drawn = [1000 * fid.kernel_distance(a, b, 50, 100) for _ in range(10)]
    assert len(set(drawn)) == 10
    off = (np.mean(drawn) - kernel_distance(a, b)) / (np.std(drawn) / np.sqrt(10))
    # Their mean is right: what subsets add is noise.
    assert abs(off) < 5
    # clean-fid's distance of a set to itself can come out negative, of few rows.
    few = normal(92, 20, 64)
    assert fid.fid_from_feats(few, few) < 0 <= frechet_distance(few, few) < 1e-9
    # All pair the prompt of a picture with itself where both sets are of the same prompts.
    common = normal(93, 200, 16)
    near, far = common + normal(94, 200, 16), common + normal(95, 200, 16)
    cubic = {"kid_kernel_poly_degree": 3, "kid_kernel_poly_gamma": None, "kid_kernel_poly_coef0": 1}
    kernels = [kernel_poly(x, y, **cubic) for x, y in ((near, near), (near, far), (far, far))]
    other = 1000 * mmd2(*kernels, mmd_est="unbiased")
    assert other == pytest.approx(kernel_distance(near, far), rel=1e-9)
    assert other < kernel_distance(near, far, matched=True) - 10
