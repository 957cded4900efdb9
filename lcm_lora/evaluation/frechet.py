"""The Fréchet distance between two sets of features.

Exact and real for any number of rows, also fewer than dimensions: the trace of the root of the
product of two covariances is the nuclear norm of a product of their factors, so that no root of a
nearly singular matrix is ever taken.

Legend: N rows of features, D dimensions, r = min(N, D).
Source: Heusel et al. 2017; Dowson and Landau 1982.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def frechet_distance(a: ArrayLike, b: ArrayLike) -> float:
    """Return |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), never below 0.

    Args:
        a: Features [N, D] with N >= 2; computed in float64.
        b: Features of the other set, same D.
    """
    rows_a, rows_b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    gap = rows_a.mean(0) - rows_b.mean(0)
    root_a, root_b = covariance_factor(rows_a), covariance_factor(rows_b)
    overlap = np.linalg.norm(root_a @ root_b.T, "nuc")
    distance = gap @ gap + np.sum(root_a**2) + np.sum(root_b**2) - 2 * overlap
    return max(0.0, float(distance))


def covariance_factor(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a factor F [r, D] of the unbiased covariance of rows [N, D]: F.T @ F."""
    factor = (rows - rows.mean(0)) / np.sqrt(len(rows) - 1)
    if factor.shape[0] > factor.shape[1]:
        # A rotation of the rows leaves F.T @ F and every nuclear norm as they are.
        return np.asarray(np.linalg.qr(factor, mode="r"))
    return factor
