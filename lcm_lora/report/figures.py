"""Figures as SVG: quality against cost, and the course of training. Same table, same bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from lcm_lora.evaluation.scores import CellRecord, MetricRecord, Row, Table
from lcm_lora.evaluation.selection import Selection
from lcm_lora.painting.latencies import Latency
from lcm_lora.params.generate import ADAPTER, CHAMPION, REAL, TEACHER
from lcm_lora.report.drawing import STYLE, entitle, single, svg
from lcm_lora.report.numbers import half_width
from lcm_lora.report.style import COLOURS, INK, Mark, marks, steps_title
from lcm_lora.report.verdict import teacher_cell
from lcm_lora.training.curve import CurveRow

_ADAPTER, _TEACHER = COLOURS[ADAPTER], COLOURS[TEACHER]
_Z = NormalDist().inv_cdf(0.975)
"""Half a 95 % interval of a candidate, in standard errors."""

_WIDTH = 9.0
_SIDES: dict[str, float] = {"left": 0.09, "right": 0.985, "wspace": 0.2}

_LABELS = (
    (8.0, (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)),
    (3000.0, (1.0, 2.0, 5.0)),
    (float("inf"), (1.0,)),
)
"""What is labelled within a decade of a logarithmic axis that spans less than a factor."""


Cost = Callable[[CellRecord], float | None]
"""What a picture of a cell costs; None where that is not known."""


@dataclass(frozen=True, slots=True)
class Line:
    """The cells of one painter and one guidance, in the order of their steps."""

    mark: Mark
    label: str
    is_first: bool
    """The adapter, drawn above all others."""
    is_plain: bool
    """Of other painters: without guidance."""
    cells: tuple[CellRecord, ...]

    @property
    def style(self) -> dict[str, Any]:
        """How matplotlib draws the line."""
        return {
            "color": self.mark.colour,
            "marker": self.mark.shape,
            "markerfacecolor": "none" if self.is_plain else self.mark.colour,
            "markersize": 7 if self.is_first else 5,
            "linewidth": 2.6 if self.is_first else 1.4,
            "linestyle": (0, (3, 2)) if self.is_plain else "-",
            "zorder": 5 if self.is_first else 3,
        }


@dataclass(frozen=True, slots=True)
class Axis:
    """What quality is drawn against."""

    label: str
    cost: Cost


STEPS = Axis("Sampling steps", lambda cell: cell.steps)
GUIDANCE = Axis("Guidance", lambda cell: cell.guidance)
EVALUATIONS = Axis("Network evaluations a picture", lambda cell: cell.nfe)


def latency_axis(latency: Latency) -> Axis:
    """Return the axis of milliseconds a picture."""
    label = f"Milliseconds a picture ({latency.device})"
    return Axis(label, lambda cell: latency.of(cell.steps, cell.guidance))


def quality(table: Table, metrics: Sequence[MetricRecord], axis: Axis) -> str:
    """Draw metrics against a cost, two panels a row, with a legend below.

    Args:
        table: Scores.
        metrics: What to draw.
        axis: The cost.
    """
    lines = quality_lines(table)
    with matplotlib.rc_context(STYLE):
        rows = (len(metrics) + 1) // 2
        height = 3.1 * rows + 0.75
        figure = Figure(figsize=(_WIDTH, height))
        figure.subplots_adjust(**_SIDES, hspace=0.45, top=1 - 0.3 / height, bottom=1.15 / height)
        grid = figure.subplots(rows, 2, squeeze=False).ravel()
        for axes, metric in zip(grid, metrics, strict=False):
            _panel(axes, table, metric, lines, axis)
        for axes in grid[len(metrics) :]:
            axes.set_axis_off()
        figure.legend(handles=_legend(table, lines), loc="lower center", ncols=5, fontsize=9)
        return svg(figure)


def quality_panel(table: Table, metric: MetricRecord, axis: Axis) -> str:
    """Draw one metric against a cost, without a legend; see `quality`."""
    return single(lambda axes: _panel(axes, table, metric, quality_lines(table), axis))


def sweep_panel(table: Table, metric: MetricRecord, lines: Sequence[Line], axis: Axis) -> str:
    """Draw one metric against what was varied, such as the guidance, all else being equal."""
    return single(lambda axes: draw_sweep(axes, table, metric, lines, axis))


def draw_sweep(
    axes: Axes, table: Table, metric: MetricRecord, lines: Sequence[Line], axis: Axis
) -> None:
    """Draw what `sweep_panel` shows."""
    cells = _draw_lines(axes, table, metric, lines, axis.cost)
    axes.set(xlabel=axis.label, xticks=sorted({axis.cost(cell) for cell in cells}))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    _finish(axes, table, metric, lines)


def quality_lines(table: Table) -> list[Line]:
    """Return the lines of the quality figures: the adapter last, above all others.

    A guidance of which a painter has one cell belongs to its sweep, where it has others with more.
    """
    mark, found = marks(table), []
    for painter in _drawn(table):
        groups = _groups(table, painter, lambda cell: cell.guidance)
        most = max(len(cells) for cells in groups.values())
        groups = {g: cells for g, cells in groups.items() if len(cells) > 1 or most == 1}
        for guidance, cells in groups.items():
            label = mark[painter].title + (f", guidance {guidance:g}" if len(groups) > 1 else "")
            is_plain = guidance <= 1 and painter not in {ADAPTER, CHAMPION} and len(groups) > 1
            found.append(Line(mark[painter], label, painter == ADAPTER, is_plain, tuple(cells)))
    return found


def sweep_lines(table: Table) -> list[Line]:
    """Return where adapter and champion were painted with several guidances at equal steps."""
    mark, found = marks(table), []
    for painter in (CHAMPION, ADAPTER):
        for steps, cells in _groups(table, painter, lambda cell: cell.steps).items():
            if len(cells) > 1:
                label = f"{mark[painter].title}, {steps_title(int(steps))}"
                cells = sorted(cells, key=lambda cell: cell.guidance)
                found.append(Line(mark[painter], label, painter == ADAPTER, False, tuple(cells)))
    return found


def training_curve(curve: Sequence[CurveRow]) -> str:
    """Draw loss and gradient norm of every step, and their moving averages.

    Args:
        curve: Rows with `step`, `loss` and `grad_norm`.
    """
    steps = np.array([row.step for row in curve])
    window = max(1, len(steps) // 30)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, 2.9))
        figure.subplots_adjust(**_SIDES, top=0.88, bottom=0.18)
        for axes, (key, title) in zip(
            figure.subplots(1, 2),
            (("loss", "Loss"), ("grad_norm", "Gradient norm before clipping")),
            strict=True,
        ):
            values = np.array([getattr(row, key) for row in curve], float)  # None is a gap
            axes.plot(steps, values, color=_ADAPTER, alpha=0.3, linewidth=0.8)
            average = moving_average(values, window)
            axes.plot(steps[window - 1 :], average, color=_ADAPTER, linewidth=2)
            axes.set(title=title, xlabel="Optimiser step", yscale="log")
            _plain_numbers(axes)
            axes.grid(axis="y")
        return svg(figure)


def candidates_by_step(selection: Selection) -> str:
    """Draw how every candidate came out, by its step of training, and which one was taken."""
    steps = [row.step for row in selection.rows]
    values = [row.value for row in selection.rows]
    errors = [_Z * row.se for row in selection.rows]
    taken = steps.index(selection.chosen)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, 2.7))
        figure.subplots_adjust(**_SIDES, top=0.87, bottom=0.19)
        axes = figure.subplots()
        colour = _ADAPTER
        line: dict[str, Any] = {"color": colour, "linewidth": 1.4, "marker": "o", "markersize": 4}
        axes.errorbar(steps, values, yerr=errors, capsize=2.5, elinewidth=1, **line)
        axes.plot(steps[taken], values[taken], "o", markersize=11, color=colour)
        axes.set_title(f"{selection.metric}: taken at step {selection.chosen:,}")
        axes.set(xlabel="Optimiser step", xlim=(0, steps[-1] * 1.03))
        # Only judged pictures are right or wrong; the record of a choice has no unit of its own.
        is_share = selection.metric == "attributes"
        _say_direction(axes, selection.lower_is_better, is_share)
        axes.grid(axis="y")
        return svg(figure)


def moving_average(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return the mean of each `window` of values; gaps are left out, NaN where all are gaps."""
    known, ones = np.isfinite(values), np.ones(window)
    sums = np.convolve(np.where(known, values, 0.0), ones, "valid")
    counts = np.convolve(known, ones, "valid")
    return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)


def _panel(
    axes: Axes, table: Table, metric: MetricRecord, lines: Sequence[Line], axis: Axis
) -> None:
    drawn = _draw_lines(axes, table, metric, lines, axis.cost)
    ticks = sorted({cost for cell in drawn if (cost := axis.cost(cell)) is not None})
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(_apart(ticks)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.set_xlabel(axis.label)
    _finish(axes, table, metric, lines)
    if metric.unit == "share":
        axes.set_ylim(-0.02, 1.02)


def _draw_lines(
    axes: Axes, table: Table, metric: MetricRecord, lines: Sequence[Line], cost: Cost
) -> list[CellRecord]:
    """Draw lines with intervals; return the cells that are there."""
    drawn = []
    for line in lines:
        points = [
            (cell, x, row)
            for cell in line.cells
            if (row := table.row(cell.id, metric.name)) and (x := cost(cell)) is not None
        ]
        drawn += [cell for cell, _, _ in points]
        points.sort(key=lambda point: point[1])
        axes.errorbar(
            [x for _, x, _ in points],
            [row.value for _, _, row in points],
            yerr=[half_width(table, row) for _, _, row in points],
            capsize=2.5,
            elinewidth=1,
            **line.style,
        )
    return drawn


def _finish(axes: Axes, table: Table, metric: MetricRecord, lines: Sequence[Line]) -> None:
    """Add the teacher's band and the real pictures' line, name the metric, and fit the axis."""
    references = [
        row
        for cell in (teacher_cell(table), *table.cells_of(REAL))
        if (row := table.row(cell.id, metric.name))
    ]
    for row in references:
        if row.cell == teacher_cell(table).id:
            half = half_width(table, row)
            axes.axhspan(row.value - half, row.value + half, color=_TEACHER, alpha=0.25, lw=0)
            axes.axhline(row.value, color=_TEACHER, linewidth=1.4)
        else:
            axes.axhline(row.value, color=INK, linewidth=1.2, linestyle=(0, (1, 2)))
    entitle(axes, metric.title)
    _say_direction(axes, metric.lower_is_better, metric.unit == "share")
    cells = {cell.id for line in lines for cell in line.cells}
    rows = [row for row in table.rows if row.cell in cells and row.metric == metric.name]
    if metric.unit == "distance" and metric.lower_is_better:
        _frame(axes, table, rows + references)
    axes.grid(axis="y")


def _say_direction(axes: Axes, lower_is_better: bool, is_share: bool) -> None:
    """Label the axis of a metric with its good side, and shares in percent."""
    axes.set_ylabel("lower is better" if lower_is_better else "higher is better", fontsize=8.5)
    if is_share:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))


def _frame(axes: Axes, table: Table, rows: Sequence[Row]) -> None:
    """Fit a logarithmic axis to distances; one without bias can be below zero, which is linear."""
    if not rows or min(row.value for row in rows) <= 0:
        return
    axes.set_yscale("log")
    highest = max(row.value + half_width(table, row) for row in rows)
    axes.set_ylim(min(row.value for row in rows) / 1.6, highest * 1.25)
    _plain_numbers(axes)


def _apart(ticks: Sequence[float]) -> list[float]:
    """Return ticks that have room for their labels on a logarithmic axis."""
    kept: list[float] = []
    least = (ticks[-1] / ticks[0]) ** (1 / 9) if ticks else 1.0
    for tick in ticks:
        if not kept or tick >= kept[-1] * max(least, 1.15):
            kept.append(tick)
    return kept


def _drawn(table: Table) -> list[str]:
    """Return the painters of the quality figures, the champion and the adapter last."""
    others = dict.fromkeys(cell.painter for cell in table.cells)
    names = [name for name in others if name not in {TEACHER, REAL, ADAPTER, CHAMPION}]
    return [*names, *(name for name in (CHAMPION, ADAPTER) if name in others)]


def _groups(
    table: Table, painter: str, key: Callable[[CellRecord], float]
) -> dict[float, list[CellRecord]]:
    """Return a painter's cells of the first noises by a field, in the table's order."""
    groups: dict[float, list[CellRecord]] = {}
    for cell in table.cells_of(painter, seeds=0):
        groups.setdefault(key(cell), []).append(cell)
    return groups


def _legend(table: Table, lines: Sequence[Line]) -> list[Line2D | Patch]:
    handles: list[Line2D | Patch] = [
        Line2D([], [], label=line.label, **line.style) for line in reversed(lines)
    ]
    label = f"Teacher, {teacher_cell(table).nfe} evaluations"
    handles.append(Patch(color=_TEACHER, alpha=0.5, label=label))
    dots: dict[str, Any] = {"color": INK, "linewidth": 1.2, "linestyle": (0, (1, 2))}
    handles.append(Line2D([], [], label="Real pictures", **dots))
    return handles


def _plain_numbers(axes: Axes) -> None:
    """Label a logarithmic axis with 0.5, 1, 2, 5, 10 instead of powers of ten."""
    low, high = axes.get_ylim()
    subs = next(labels for widest, labels in _LABELS if high / low < widest)
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
