"""Figures as SVG: quality against cost, and the course of training. Same table, same bytes."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from lcm_lora.evaluation.names import is_lower_better
from lcm_lora.evaluation.resampling import Z
from lcm_lora.evaluation.selection import Selection
from lcm_lora.evaluation.table import ADAPTER, SOLVERS, Row, Table
from lcm_lora.report.style import COLOURS, INK, PAPER, metric_title, sampler_title
from lcm_lora.training.curve import CurveRow

_MARKERS = {"lcm": "o", "ddim": "s", "dpmpp": "^", "unipc": "D"}

_WIDTH = 9.0
_SIDES: dict[str, float] = {"left": 0.09, "right": 0.985, "wspace": 0.2}

_LABELS = (
    (8.0, (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)),
    (3000.0, (1.0, 2.0, 5.0)),
    (float("inf"), (1.0,)),
)
"""What is labelled within a decade of a logarithmic axis that spans less than a factor."""

_STYLE: Any = {
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "svg.hashsalt": "lcm-lora",  # else element ids are random
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}


@dataclass(frozen=True, slots=True)
class _Line:
    """The cells of one sampler, guided or plain, in the order of their cost."""

    sampler: str
    is_guided: bool
    rows: list[Row]

    @property
    def style(self) -> dict[str, Any]:
        """How matplotlib draws the line."""
        colour, is_adapter = COLOURS[self.sampler], self.sampler == ADAPTER
        is_solid = is_adapter or self.is_guided
        return {
            "color": colour,
            "marker": _MARKERS[self.sampler],
            "markerfacecolor": colour if is_solid else "none",
            "markersize": 7 if is_adapter else 5,
            "linewidth": 2.6 if is_adapter else 1.4,
            "linestyle": "-" if is_solid else (0, (3, 2)),
            "zorder": 5 if is_adapter else 3,
        }


def quality_by_steps(table: Table) -> str:
    """Draw every metric against the number of steps."""
    return _quality(table, "Sampling steps", lambda row: row.steps)


def quality_by_evaluations(table: Table) -> str:
    """Draw every metric against the number of network evaluations, the cost of a picture."""
    return _quality(table, "Network evaluations a picture", lambda row: row.nfe)


def training_curve(curve: Sequence[CurveRow]) -> str:
    """Draw loss and gradient norm of every step, and their moving averages.

    Args:
        curve: Rows with `step`, `loss` and `grad_norm`.
    """
    steps = np.array([row.step for row in curve])
    window = max(1, len(steps) // 30)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 2.9))
        figure.subplots_adjust(**_SIDES, top=0.88, bottom=0.18)
        for axes, (key, title) in zip(
            figure.subplots(1, 2),
            (("loss", "Loss"), ("grad_norm", "Gradient norm before clipping")),
            strict=True,
        ):
            values = np.array([getattr(row, key) for row in curve], float)  # None is a gap
            axes.plot(steps, values, color=COLOURS["lcm"], alpha=0.3, linewidth=0.8)
            average = moving_average(values, window)
            axes.plot(steps[window - 1 :], average, color=COLOURS["lcm"], linewidth=2)
            axes.set(title=title, xlabel="Optimiser step", yscale="log")
            _plain_numbers(axes)
            axes.grid(axis="y")
        return _svg(figure)


def candidates_by_step(selection: Selection) -> str:
    """Draw how every candidate came out, by its step of training, and which one was taken."""
    steps = [row.step for row in selection.rows]
    values = [row.value for row in selection.rows]
    errors = [Z * row.se for row in selection.rows]
    taken = steps.index(selection.chosen)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 2.7))
        figure.subplots_adjust(**_SIDES, top=0.87, bottom=0.19)
        axes = figure.subplots()
        colour = COLOURS["lcm"]
        line: dict[str, Any] = {"color": colour, "linewidth": 1.4, "marker": "o", "markersize": 4}
        axes.errorbar(steps, values, yerr=errors, capsize=2.5, elinewidth=1, **line)
        axes.plot(steps[taken], values[taken], "o", markersize=11, color=colour)
        axes.set_title(f"{metric_title(selection.metric)}: taken at step {selection.chosen:,}")
        axes.set(xlabel="Optimiser step", xlim=(0, steps[-1] * 1.03))
        _say_direction(axes, selection.metric)
        axes.grid(axis="y")
        return _svg(figure)


def moving_average(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return the mean of each `window` of values; gaps are left out, NaN where all are gaps."""
    known, ones = np.isfinite(values), np.ones(window)
    sums = np.convolve(np.where(known, values, 0.0), ones, "valid")
    counts = np.convolve(known, ones, "valid")
    return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)


def _quality(table: Table, label: str, cost: Callable[[Row], int]) -> str:
    metrics = [table.distance("real"), table.distance("teacher"), "attributes", "clip_score"]
    metrics = [metric for metric in metrics if table.select(metric=metric)]
    with matplotlib.rc_context(_STYLE):
        lines_down = (len(metrics) + 1) // 2
        height = 3.1 * lines_down + 0.75
        figure = Figure(figsize=(_WIDTH, height))
        figure.subplots_adjust(**_SIDES, hspace=0.3, top=1 - 0.3 / height, bottom=1.15 / height)
        grid = figure.subplots(lines_down, 2, squeeze=False).ravel()
        for axes, metric in zip(grid, metrics, strict=False):
            _panel(axes, table, metric, cost)
        for axes in grid[len(metrics) :]:
            axes.set_axis_off()
        for axes in grid[max(0, len(metrics) - 2) : len(metrics)]:
            axes.set_xlabel(label)
        figure.legend(handles=_legend(table), loc="lower center", ncols=5, fontsize=9)
        return _svg(figure)


def _panel(axes: Axes, table: Table, metric: str, cost: Callable[[Row], int]) -> None:
    lines = _lines(table, metric)
    for line in lines:
        axes.errorbar(
            [cost(row) for row in line.rows],
            [row.value for row in line.rows],
            yerr=[Z * row.se for row in line.rows],
            capsize=2.5,
            elinewidth=1,
            **line.style,
        )
    for row in _teacher(table, metric):
        axes.axhspan(
            row.value - Z * row.se, row.value + Z * row.se, color=COLOURS["teacher"], alpha=0.25
        )
        axes.axhline(row.value, color=COLOURS["teacher"], linewidth=1.4)
    for row in _limit(table, metric):
        axes.axhline(row.value, color=INK, linewidth=1.2, linestyle=(0, (1, 2)))
    axes.set_title(metric_title(metric))
    _say_direction(axes, metric)
    ticks = sorted({cost(row) for line in lines for row in line.rows})
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if is_lower_better(metric):
        axes.set_yscale("log")
        _frame(axes, [row for line in lines for row in line.rows], metric, table)
        _plain_numbers(axes)
    elif metric == "attributes":
        axes.set_ylim(-0.02, 1.02)
    axes.grid(axis="y")


def _say_direction(axes: Axes, metric: str) -> None:
    """Label the axis of a metric with its good side, and shares in percent."""
    good = "lower is better" if is_lower_better(metric) else "higher is better"
    axes.set_ylabel(good, fontsize=8.5)
    if metric == "attributes":
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))


def _frame(axes: Axes, rows: list[Row], metric: str, table: Table) -> None:
    """Fit a logarithmic axis to the values; a bar that reaches down to zero may leave it."""
    drawn = rows + _teacher(table, metric) + _limit(table, metric)
    values = [row.value for row in drawn if row.value > 0]
    if values:
        highest = max(row.value + Z * row.se for row in drawn)
        axes.set_ylim(min(values) / 1.6, highest * 1.25)


def _lines(table: Table, metric: str) -> list[_Line]:
    lines = []
    for sampler in (*SOLVERS, ADAPTER):
        rows = table.select(sampler=sampler, metric=metric, seeds=0)
        for is_guided in (True, False):
            part = [row for row in rows if (row.guidance > 1) == is_guided]
            if part:
                lines.append(_Line(sampler, is_guided, sorted(part, key=lambda row: row.steps)))
    return lines


def _teacher(table: Table, metric: str) -> list[Row]:
    reference = table.protocol["reference"]["teacher"]
    return table.select(sampler="teacher", metric=metric, **reference)


def _limit(table: Table, metric: str) -> list[Row]:
    """Return what no sampler can be expected to pass: real against real, teacher against itself."""
    if metric.endswith(":teacher"):
        reference = table.protocol["reference"]["teacher"]
        rows = table.select(sampler="teacher", metric=metric)
        return [row for row in rows if row.steps == reference["steps"]][:1]
    return table.select(sampler="real", metric=metric)[:1]


def _legend(table: Table) -> list[Line2D | Patch]:
    """Return the legend's entries, in the order in which columns of two are filled."""
    lines = sorted(_lines(table, table.distance("real")), key=lambda line: line.sampler != ADAPTER)
    handles: list[Line2D | Patch] = [
        Line2D([], [], label=sampler_title(line.sampler, line.rows[0].guidance), **line.style)
        for line in lines
    ]
    evaluations = max(row.nfe for row in _teacher(table, table.distance("real")))
    label = f"Teacher, {evaluations} evaluations"
    handles.insert(1, Patch(color=COLOURS["teacher"], alpha=0.5, label=label))
    dots: dict[str, Any] = {"color": INK, "linewidth": 1.2, "linestyle": (0, (1, 2))}
    handles.append(Line2D([], [], label="Floor or ceiling", **dots))
    return handles


def _plain_numbers(axes: Axes) -> None:
    """Label a logarithmic axis with 0.5, 1, 2, 5, 10 instead of powers of ten."""
    low, high = axes.get_ylim()
    subs = next(labels for widest, labels in _LABELS if high / low < widest)
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None, "Creator": None})
    return text.getvalue()
