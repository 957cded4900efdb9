"""Diversity within a prompt: how unlike pictures of one caption are that start from other noises.

A sampler that ignores its noise scores 0; distances between sets hardly see it.

Legend: N prompts, D dimensions.
Source: as Sadat et al. 2024 (CADS) and others do with features; Yin et al. 2024 (DMD2) with LPIPS.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from lcm_lora.evaluation.kernel import unit_rows


def diversity(sets: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    """Return 1 - cos of features of the same prompt, mean over pairs of noises, [N] in 0..2.

    Args:
        sets: Two or more sets of features [N, D], one of each set of noises.
    """
    units = [unit_rows(rows) for rows in sets]
    unlike = [1 - np.sum(a * b, 1) for a, b in combinations(units, 2)]
    return np.asarray(np.mean(unlike, axis=0))
