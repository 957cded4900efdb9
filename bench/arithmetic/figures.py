"""The figures of the study, as SVG of equal bytes each time."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bench.arithmetic import variants
from bench.arithmetic.apart import APART
from bench.arithmetic.closeness import SPREADS, Closeness, Measured, Spectrum
from bench.arithmetic.interference import Meeting
from bench.arithmetic.painted import Outcome
from lcm_lora.combining.arithmetic import energies
from lcm_lora.combining.delta import Lora
from lcm_lora.report.drawing import STYLE, svg
from lcm_lora.report.style import COLOURS, INK

_MAIN, _OTHER, _GREY = COLOURS["adapter"], COLOURS["champion"], COLOURS["teacher"]
_WIDTH = 9.0


def _drawn(height: float, draw: Callable[[Figure], None], **sides: float) -> str:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, height))
        figure.subplots_adjust(**sides)
        draw(figure)
        return svg(figure)


def closeness(near: Sequence[Closeness]) -> str:
    """Draw cosine and overlaps of every module in the order of the network, beside chance.

    Overlaps are shown as multiples of what chance gives, which depends on a module's size.
    """
    panels = (
        ("cosine", "Cosine of what both add"),
        ("columns", "Overlap of what both write, times that of chance"),
        ("rows", "Overlap of what both read, times that of chance"),
    )
    order = sorted(near, key=lambda each: _depth(each.block))

    def draw(figure: Figure) -> None:
        grid = figure.subplots(len(panels), 1, sharex=True)
        for axes, (name, title) in zip(grid, panels, strict=True):
            _beside_chance(axes, [getattr(each, name) for each in order])
            axes.set_title(title)
            axes.grid(axis="y")
        _name_blocks(grid, [each.block for each in order])
        grid[0].legend(loc="upper right", fontsize=8, ncols=3)

    return _drawn(6.2, draw, left=0.07, right=0.985, top=0.95, bottom=0.07, hspace=0.3)


def _depth(block: str) -> tuple[int, str]:
    for place, part in enumerate(("down", "mid", "up")):
        if block.startswith(part):
            return place, block
    return 3, block


def _short(block: str) -> str:
    return block.replace("_blocks.", " ").replace("_block", "")


def _beside_chance(axes: Axes, found: Sequence[Measured]) -> None:
    places, values = np.arange(len(found)), np.array([each.value for each in found])
    means = np.array([each.chance.mean for each in found])
    half = SPREADS * np.array([each.chance.deviation for each in found])
    if means.all():
        values, half, means = values / means, half / means, means / means
    band: Any = {"step": "mid", "color": _GREY, "alpha": 0.35, "linewidth": 0}
    axes.fill_between(places, means - half, means + half, label="95 % of chance", **band)
    inside = np.array([each.is_by_chance for each in found])
    for chosen, colour, label in ((~inside, _MAIN, "outside"), (inside, _GREY, "inside")):
        how: Any = {"markersize": 3.5, "color": colour, "label": label}
        axes.plot(places[chosen], values[chosen], "o", **how)


def _name_blocks(grid: Sequence[Axes], blocks: Sequence[str]) -> None:
    """Part the blocks by lines, and name each below its middle."""
    names = list(dict.fromkeys(blocks))
    starts = [blocks.index(name) for name in names]
    ends = [*starts[1:], len(blocks)]
    for axes in grid:
        for start in starts[1:]:
            axes.axvline(start - 0.5, color=INK, linewidth=0.6, alpha=0.4)
        axes.set_xlim(-1, len(blocks))
        axes.tick_params(axis="x", length=0)
    middles = [(start + end - 1) / 2 for start, end in zip(starts, ends, strict=True)]
    grid[-1].set_xticks(middles, [_short(name) for name in names])


def energy(lora: Lora) -> str:
    """Draw the share of an adapter's energy in each block and kind of module."""
    found = energies(lora)
    blocks = sorted({own.block for own in found}, key=_depth)
    kinds = sorted({own.kind for own in found}, key=lambda kind: -_total(found, kind))

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        shares = {(own.kind, own.block): share for own, share in found.items()}
        cells = [[shares.get((kind, block), math.nan) for block in blocks] for kind in kinds]
        _heat(axes, cells, lambda share: f"{100 * share:.1f}")
        axes.set_xticks(range(len(blocks)), [_short(block) for block in blocks])
        axes.set_yticks(range(len(kinds)), kinds)
        axes.set_title("Share of the adapter's energy, in percent")

    return _drawn(3.4, draw, left=0.16, right=0.985, top=0.9, bottom=0.09)


def _total(found: Mapping[Any, float], kind: str) -> float:
    return math.fsum(share for own, share in found.items() if own.kind == kind)


def _heat(axes: Axes, cells: Sequence[Sequence[float]], words: Callable[[float], str]) -> None:
    """Draw a field for each number, the stronger the larger it is, with the number in it."""
    values = np.array(cells, float)
    most = np.nanmax(np.abs(values))
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            alpha = 0.03 + 0.67 * min(1.0, abs(value) / most)
            box: Any = {"facecolor": _OTHER, "alpha": alpha, "linewidth": 0}
            axes.add_patch(matplotlib.patches.Rectangle((column - 0.5, row - 0.5), 1, 1, **box))
            axes.text(column, row, words(value), ha="center", va="center", fontsize=9)
    axes.set(xlim=(-0.5, values.shape[1] - 0.5), ylim=(values.shape[0] - 0.5, -0.5))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def parts(found: Sequence[Outcome], lora: Lora) -> str:
    """Draw how the adapter paints without each group, and with each group alone."""
    groups = [name for name in variants.GROUPS if _has(found, variants.without(name))]
    metrics = list(dict.fromkeys(outcome.metric for outcome in found))
    shares = {name: _share(lora, name) for name in groups}

    def draw(figure: Figure) -> None:
        grid = figure.subplots(1, len(metrics), sharey=True)
        for axes, metric in zip(grid, metrics, strict=True):
            own = {o.variant: o for o in found if o.metric == metric}
            _by_group(axes, own, groups)
            axes.set_title(_title(metric))
            axes.grid(axis="x")
        labels = [f"{name} ({100 * shares[name]:.0f} %)" for name in groups]
        grid[0].set_yticks(range(len(groups)), labels)
        grid[0].set_ylim(len(groups) - 0.5, -0.5)
        figure.legend(*grid[0].get_legend_handles_labels(), loc="lower center", ncols=4, fontsize=9)

    return _drawn(4.4, draw, left=0.195, right=0.98, top=0.92, bottom=0.19, wspace=0.14)


def _has(found: Sequence[Outcome], variant: str) -> bool:
    return any(outcome.variant == variant for outcome in found)


def _share(lora: Lora, name: str) -> float:
    belongs = variants.GROUPS[name]
    return math.fsum(share for own, share in energies(lora).items() if belongs(own))


def _by_group(axes: Axes, own: Mapping[str, Outcome], groups: Sequence[str]) -> None:
    for name, colour, dots, label in (
        (variants.WHOLE, _MAIN, "-", "the whole adapter"),
        (variants.NOTHING, INK, (0, (1, 2)), "no adapter"),
    ):
        axes.axvline(own[name].value, color=colour, linewidth=1.4, linestyle=dots, label=label)
    for named, colour, mark, shift, label in (
        (variants.without, _OTHER, "o", -0.14, "without the group"),
        (variants.alone, _GREY, "s", 0.14, "the group alone"),
    ):
        found = [own[named(name)] for name in groups]
        heights = [place + shift for place in range(len(groups))]
        how: Any = {"fmt": mark, "color": colour, "markersize": 5, "capsize": 2, "label": label}
        axes.errorbar([o.value for o in found], heights, xerr=_ends(found), **how)
    _scale(axes.xaxis, own.values(), axes.set_xscale)


def _ends(found: Iterable[Outcome]) -> Any:
    return np.array([(o.value - o.low, o.high - o.value) for o in found]).T


def _scale(axis: Any, found: Iterable[Outcome], set_scale: Callable[..., None]) -> None:
    """Show shares in percent, and distances, which span decades, by their logarithm."""
    metric = next(iter(found)).metric
    if _is_distance(metric):
        set_scale("symlog", linthresh=10)
        axis.set_major_locator(FixedLocator([0, 10, 100, 1000]))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    elif metric != "clip_score":
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))


_TITLES = {
    APART: "Away from the whole",
    "attributes": "Pictures as asked for",
    "clip_score": "CLIP score",
}


def _is_distance(metric: str) -> bool:
    return ":" in metric


def _title(metric: str) -> str:
    if _is_distance(metric):
        return "Distance to teacher (KID)"
    return _TITLES[metric]


def ranks(
    found: Sequence[Outcome], errors: Mapping[int, float], spectra: Sequence[Spectrum]
) -> str:
    """Draw singular values by kind, and how the adapter paints at lower ranks."""
    metrics = list(dict.fromkeys(outcome.metric for outcome in found))

    def draw(figure: Figure) -> None:
        grid = figure.subplots(2, 2).ravel()
        _spectra(grid[0], spectra)
        for axes, metric in zip(grid[1:], metrics, strict=True):
            own = {o.variant: o for o in found if o.metric == metric}
            _by_rank(axes, own, errors, max(len(each.values) for each in spectra))
            axes.set_title(_title(metric))
            axes.grid(axis="y")

    return _drawn(6.4, draw, left=0.07, right=0.985, top=0.95, bottom=0.12, wspace=0.16, hspace=0.5)


_KINDS = {
    "convolution": _MAIN,
    "time": _OTHER,
    "feed-forward": "#009e73",
    "self-attention": "#c2649a",
    "cross-attention": "#c48a00",
}


def _spectra(axes: Axes, spectra: Sequence[Spectrum]) -> None:
    """Draw the median of each singular value of a kind, as a share of the first."""
    for kind, colour in _KINDS.items():
        own = [each.values for each in spectra if each.kind == kind]
        if own:
            depth = min(len(values) for values in own)
            shares = [statistics.median(v[i] / v[0] for v in own) for i in range(depth)]
            axes.plot(range(1, depth + 1), shares, color=colour, linewidth=1.6, label=kind)
    axes.set(
        yscale="log", xlabel="singular value", title="Singular values beside the first, median"
    )
    axes.grid(axis="y")
    axes.legend(loc="upper right", fontsize=8, ncols=2)


def _by_rank(
    axes: Axes, own: Mapping[str, Outcome], errors: Mapping[int, float], full: int
) -> None:
    for name, colour, dots in ((variants.WHOLE, _MAIN, "-"), (variants.NOTHING, INK, (0, (1, 2)))):
        axes.axhline(own[name].value, color=colour, linewidth=1.4, linestyle=dots)
    names = [*(variants.ranked(rank) for rank in errors), variants.WHOLE]
    found = [own[name] for name in names]
    how: Any = {"fmt": "o-", "color": _MAIN, "capsize": 2.5, "markersize": 6, "linewidth": 1.4}
    axes.errorbar(range(len(names)), [o.value for o in found], yerr=_ends(found), **how)
    words = [f"{rank}\n{_percent(error)}" for rank, error in errors.items()]
    axes.set_xticks(range(len(names)), [*words, f"{full}\n0 %"])
    axes.set_xlabel("rank, and error of the weights")
    _scale(axes.yaxis, own.values(), axes.set_yscale)


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def interference(meetings: Sequence[Meeting]) -> str:
    """Draw the interference over both weights, beside both effects and beside the style's."""

    def draw(figure: Figure) -> None:
        grid = figure.subplots(1, 3)
        _over_weights(grid[0], meetings, "of_both")
        grid[0].set_title("Beside the effect of both, %")
        _over_weights(grid[1], meetings, "of_style")
        grid[1].set_title("Beside the style's effect, %")
        _over_time(grid[2], [m for m in meetings if m.acceleration == m.style == 1])
        grid[2].set_title("By time step, both at 1")

    return _drawn(3.5, draw, left=0.065, right=0.985, top=0.9, bottom=0.16, wspace=0.27)


def _over_weights(axes: Axes, meetings: Sequence[Meeting], name: str) -> None:
    across = sorted({m.acceleration for m in meetings})
    up = sorted({m.style for m in meetings}, reverse=True)
    cells = [
        [
            statistics.mean(
                getattr(m, name) for m in meetings if (m.acceleration, m.style) == (a, s)
            )
            for a in across
        ]
        for s in up
    ]
    _heat(axes, cells, lambda share: f"{100 * share:.0f}")
    axes.set_xticks(range(len(across)), [f"{weight:g}" for weight in across])
    axes.set_yticks(range(len(up)), [f"{weight:g}" for weight in up])
    axes.set(xlabel="acceleration, l1", ylabel="style, l2")


def _over_time(axes: Axes, meetings: Sequence[Meeting]) -> None:
    steps = [m.timestep for m in meetings]
    for name, colour, mark, label in (
        ("of_style", _OTHER, "s", "of the style's effect"),
        ("of_acceleration", _GREY, "D", "of the acceleration's"),
        ("of_both", _MAIN, "o", "of both"),
    ):
        values = [getattr(m, name) for m in meetings]
        halves = [getattr(m, f"{name}_high") - getattr(m, name) for m in meetings]
        how: Any = {"color": colour, "marker": mark, "markersize": 5, "capsize": 2.5}
        axes.errorbar(steps, values, yerr=halves, linewidth=1.4, label=label, **how)
    axes.set(xlabel="time step", ylim=(0, None), xlim=(1050, min(steps) - 50))
    axes.set_xticks(steps)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    axes.grid(axis="y")
    axes.legend(fontsize=8)
