"""Which pictures the page shows: painters side by side, and one prompt at every pair of weights."""

from __future__ import annotations

from dataclasses import dataclass

from lcm_lora.evaluation.scores import CellRecord
from lcm_lora.mapping.standing import standing
from lcm_lora.mapping.subjects import WHOLE, Tried
from lcm_lora.params.generate import ADAPTER
from lcm_lora.report.grids import by_steps
from lcm_lora.report.thumbs import SheetColumn, Thumb, columns, thumb
from lcm_lora.report.verdict import teacher_cell

_SHOWN = 2
"""Prompts of which every point of the map is shown."""


@dataclass(frozen=True, slots=True)
class Painted:
    """A picture of the map, and where it lies."""

    acceleration: float
    thumb: Thumb
    is_whole: bool
    """Of the weights that nobody turned."""


@dataclass(frozen=True, slots=True)
class PictureMap:
    """One prompt at every pair of weights."""

    caption: str
    teacher: Thumb
    """Of the subject itself, in many steps."""
    across: tuple[float, ...]
    rows: tuple[tuple[float, tuple[Painted, ...]], ...]
    """The style's weight and its pictures, the largest weight first."""


def band(tried: Tried, rows: int) -> list[SheetColumn]:
    """Return the subject's own pictures, the adapter's at each step count, and the best solvers'.

    Those are of the adapter's costs, and the best by the metric that tells most.
    """
    own = by_steps(tried.table, ADAPTER, min)
    solvers = (standing(tried, tried.leading, cell) for cell in own)
    best = [one.solver.cell for one in solvers if one and one.solver]
    cells: list[CellRecord] = [teacher_cell(tried.table), *own, *best]
    return columns(tried.pictures, cells, range(min(rows, tried.table.protocol.n)))


def picture_maps(tried: Tried) -> list[PictureMap]:
    """Return the first prompts at every point of the map; none without a map."""
    if not tried.points:
        return []
    indices = range(min(_SHOWN, tried.table.protocol.n))
    read = {p.mix: tried.pictures.read(p.cell, indices) for p in tried.points}
    own = tried.pictures.read(teacher_cell(tried.table), indices)
    styles = sorted({point.mix.style for point in tried.points}, reverse=True)
    across = tuple(sorted({point.mix.acceleration for point in tried.points}))
    maps = []
    for i in indices:
        caption = tried.pictures.captions[i]
        painted = {
            point.mix: Painted(
                point.mix.acceleration, thumb(read[point.mix][i], caption), point.mix == WHOLE
            )
            for point in tried.points
        }
        rows = tuple(
            (style, tuple(p for mix, p in sorted(painted.items()) if mix.style == style))
            for style in styles
        )
        maps.append(PictureMap(caption, thumb(own[i], caption), across, rows))
    return maps
