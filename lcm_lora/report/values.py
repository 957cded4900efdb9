"""What single pictures came to: the arrays beside their features, and which pictures they tell.

Legend: N pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lcm_lora.errors import UserError
from lcm_lora.evaluation.cells import SUFFIX, read_features
from lcm_lora.evaluation.scores import CellRecord, MetricRecord, Table

Values = dict[str, NDArray[np.float64]]
"""By metric: float64 [N], the good side up."""


def picture_metrics(table: Table, first: Sequence[str]) -> list[MetricRecord]:
    """Return the metrics that have a value for each picture: those named first, coarse ones next.

    Of shares, pictures that are right or wrong, a reader sees the reason at once.
    """
    found = [metric for metric in table.metrics if metric.kind == "mean"]
    return sorted(found, key=lambda metric: (metric.name not in first, metric.unit != "share"))


def picture_values(features: Path, cell: CellRecord, metrics: Sequence[MetricRecord]) -> Values:
    """Read the values of every picture of a cell.

    Raises:
        UserError: The features are missing, damaged or of another set.
    """
    path = features / f"{cell.id}{SUFFIX}"
    measured = read_features(path)
    if measured.cell != cell:
        raise UserError(
            f"{path}: not the features that were scored; run `lcm-lora features {cell.painter}` "
            "and `lcm-lora score`"
        )
    return {m.name: _good_up(measured.values(m.array), m.lower_is_better) for m in metrics}


def worst(values: Values, count: int) -> list[int]:
    """Return the indices of the worst pictures, by the first metric, then by the next."""
    return [int(i) for i in np.lexsort(_keys(values))[:count]]


def most_different(a: Values, b: Values, count: int) -> tuple[list[int], list[int]]:
    """Return where `a` is most better than `b`, and where it is most worse, by index.

    By the first metric, then by the next; nowhere twice, and only where they differ.
    """
    differences = {name: a[name] - b[name] for name in a}
    order = [int(i) for i in np.lexsort(_keys(differences))]
    signs = {i: _sign([differences[name][i] for name in differences]) for i in order}
    worse = [i for i in order if signs[i] < 0][:count]
    better = [i for i in reversed(order) if signs[i] > 0][:count]
    return better, worse


def _keys(values: Values) -> tuple[NDArray[Any], ...]:
    return tuple(reversed(list(values.values())))  # the last key is the first of numpy's


def _sign(differences: Sequence[float]) -> float:
    """Return the sign of the first difference that is none of zero."""
    return next((float(np.sign(d)) for d in differences if d), 0.0)


def _good_up(values: NDArray[np.float64], lower_is_better: bool) -> NDArray[np.float64]:
    return -values if lower_is_better else values
