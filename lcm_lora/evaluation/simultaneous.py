"""Half the width of an interval, alone or one of several that hold together.

Source: Dunn 1961 (Bonferroni).
"""

from __future__ import annotations

from statistics import NormalDist


def half_width(level: float, comparisons: int = 1) -> float:
    """Return the standard errors either side of a value that make one of m intervals at once."""
    return NormalDist().inv_cdf(1 - (1 - level) / (2 * comparisons))
