"""The map of a subject as figures: a field for each pair of weights, or a line over one weight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from lcm_lora.evaluation.scores import MetricRecord, Row
from lcm_lora.mapping.standing import best_of, turned
from lcm_lora.mapping.subjects import Point, Tried
from lcm_lora.params.generate import ADAPTER, REAL
from lcm_lora.params.transfer import WHOLE
from lcm_lora.report import figures
from lcm_lora.report.drawing import entitle, single
from lcm_lora.report.numbers import half_width, spread
from lcm_lora.report.style import COLOURS, INK, marks

FIELD = "#1b80c4"
"""Of the best field; a page's text can be read on it, whether its paper is light or dark."""
_FAINTEST, _STRONGEST = 0.03, 0.6
_FLOOR = 0.01
"""Share of the worst distance below which distances are shown as equally good."""
_ROOMY = 5
"""Up to so many columns, a field has room for the width of its interval."""
_SIGNS = {"better": "▲", "worse": "▼"}
"""Of points that are told apart from the weights as they are."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What marks a point of the map."""

    half: float
    """Of its side, a field's being 0.5."""
    colour: str
    dashes: Any
    """As matplotlib takes them."""


def draw_map(tried: Tried, metric: MetricRecord) -> str:
    """Draw a metric over the map: fields where there are styles, else a line, as SVG."""
    return _fields(tried, metric) if tried.subject.adapters else _line(tried, metric)


def strengths(
    metric: MetricRecord, values: Sequence[float], halves: Sequence[float]
) -> NDArray[np.float64]:
    """Return how good values are beside each other, float64 [P] in 0..1, about 0.5.

    Distances count by their logarithm: half of one is as much better everywhere. What differs by
    less than an interval is wide is shown by less than the whole range.

    Args:
        metric: Of the values.
        values: Of P points.
        halves: Half the widths of their intervals.
    """
    worths = np.asarray(values, np.float64)
    ends = np.stack([worths - halves, worths, worths + halves])
    if metric.unit == "distance" and metric.lower_is_better and worths.max() > 0:
        ends = np.log(np.maximum(ends, _FLOOR * worths.max()))
    low, found, high = -ends if metric.lower_is_better else ends
    span = max(np.ptp(found), np.median(np.abs(high - low)))
    middle = (found.min() + found.max()) / 2
    return 0.5 + (found - middle) / (span or 1.0)


def _fields(tried: Tried, metric: MetricRecord) -> str:
    found = tried.rows(metric)
    across = sorted({point.mix.acceleration for point, _ in found})
    up = sorted({point.mix.style for point, _ in found})

    def draw(axes: Axes) -> None:
        halves = [half_width(tried.table, row) for _, row in found]
        alphas = strengths(metric, [row.value for _, row in found], halves)
        signs = turned(tried, metric)
        for (point, row), alpha in zip(found, alphas, strict=True):
            x, y = across.index(point.mix.acceleration), up.index(point.mix.style)
            shade = _FAINTEST + (_STRONGEST - _FAINTEST) * alpha
            axes.add_patch(_field(x, y, 0.5, facecolor=FIELD, alpha=shade))
            sign = _SIGNS.get(signs.get(point.mix, "level"), "")
            _write(axes, tried, row, sign, (x, y), len(across))
            for frame in _frames(tried, metric, point):
                how: Any = {"edgecolor": frame.colour, "linewidth": 2, "linestyle": frame.dashes}
                axes.add_patch(_field(x, y, frame.half, fill=False, **how))
        axes.set(xlim=(-0.5, len(across) - 0.5), ylim=(-0.5, len(up) - 0.5))
        axes.set_xticks(range(len(across)), [f"{weight:g}" for weight in across])
        axes.set_yticks(range(len(up)), [f"{weight:g}" for weight in up])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set(xlabel="Weight of the new adapter, l1", ylabel="Share of the style weights, l2")
        entitle(axes, metric.title + (", %" if metric.unit == "share" else ""))

    return single(draw)


def _field(x: float, y: float, half: float, **style: Any) -> Rectangle:
    return Rectangle((x - half, y - half), 2 * half, 2 * half, **{"linewidth": 0, **style})


def _write(
    axes: Axes, tried: Tried, row: Row, sign: str, place: tuple[float, float], columns: int
) -> None:
    """Write a value into its field, with half its interval where there is room."""
    value, half = (part.split()[0] for part in spread(tried.table, row).split("±"))
    x, y = place
    centred: Any = {"ha": "center", "va": "center"}
    if columns > _ROOMY:
        axes.text(x, y + 0.1, value, fontsize=min(9.0, 70 / columns), **centred)
        axes.text(x, y - 0.26, sign, fontsize=6, **centred)
        return
    axes.text(x, y + 0.12, value, fontsize=10, **centred)
    axes.text(x, y - 0.22, f"± {half}", fontsize=7, **centred)
    axes.text(x + 0.31, y - 0.2, sign, fontsize=6, **centred)


def _frames(tried: Tried, metric: MetricRecord, point: Point) -> Iterator[Frame]:
    """Yield the frames of a point: of the weights as they are, and of the best value."""
    if point.mix == WHOLE:
        yield Frame(0.46, INK, "-")
    if (best := best_of(tried, metric)) and best.point == point:
        yield Frame(0.38, COLOURS[ADAPTER], (0, (2.2, 1.6)))


def _line(tried: Tried, metric: MetricRecord) -> str:
    weights = {point.cell.id: point.mix.acceleration for point in tried.points}
    cells = tuple(point.cell for point in tried.points)
    # Real pictures are of another look, and no mark for these.
    others = tuple(cell for cell in tried.table.cells if cell.painter != REAL)
    table = tried.table.model_copy(update={"cells": others})
    line = figures.Line(marks(table)[ADAPTER], "New adapter", True, False, cells)
    signs = turned(tried, metric)
    axis = figures.Axis("Weight of the new adapter, l1", lambda cell: weights[cell.id])

    def draw(axes: Axes) -> None:
        figures.draw_sweep(axes, table, metric, [line], axis)
        if metric.unit == "share":
            axes.set_ylim(-0.02, 1.02)
        for point, row in tried.rows(metric):
            place = (point.mix.acceleration, row.value)
            for frame in _frames(tried, metric, point):
                how: Any = {"linestyles": [frame.dashes], "edgecolors": frame.colour}
                how |= {"marker": "s", "s": (44 * frame.half) ** 2, "c": "none", "linewidths": 2}
                axes.scatter(*place, zorder=6, clip_on=False, **how)
            if sign := _SIGNS.get(signs.get(point.mix, "level")):
                axes.annotate(sign, place, (0, 14), textcoords="offset points", ha="center")

    return single(draw)
