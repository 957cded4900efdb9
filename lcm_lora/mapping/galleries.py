"""Which pictures are shown: painters side by side, and one prompt at every pair of weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from lcm_lora.evaluation.scores import CellRecord
from lcm_lora.mapping.standing import standing
from lcm_lora.mapping.subjects import Tried
from lcm_lora.params.generate import ADAPTER
from lcm_lora.params.transfer import WHOLE, Mix
from lcm_lora.report.grids import Column, by_steps, comparison_grid
from lcm_lora.report.pictures import Pictures
from lcm_lora.report.style import marks
from lcm_lora.report.thumbs import SheetColumn, Thumb, columns, thumb
from lcm_lora.report.verdict import teacher_cell

_SHOWN = 2
"""Prompts of which every point of the map is shown, and which stand for a subject in the grid."""
_SIDE = 144
"""Pixels of such a picture's side, at most: there are many of them, and they are shown small."""


@dataclass(frozen=True, slots=True)
class Painted:
    """A picture of the map, and where it lies."""

    acceleration: float
    thumb: Thumb
    is_whole: bool
    """Of the weights as they are."""


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
    """Return the subject's own pictures, the adapter's at each step count, and solvers'.

    Those are of the adapter's costs, and the strongest by the metric that tells most.
    """
    own = by_steps(tried.table, ADAPTER, min)
    solvers = (standing(tried, tried.leading, cell) for cell in own)
    best = [one.solver.cell for one in solvers if one and one.solver]
    cells: list[CellRecord] = [teacher_cell(tried.table), *own, *best]
    return columns(tried.pictures, cells, range(min(rows, tried.table.protocol.n)))


def grid(every: Sequence[Tried]) -> Image.Image:
    """Draw each subject's first pictures as one picture: its own, the adapter's, a solver's."""
    tables = {tried.name: {cell.id: cell for cell in tried.table.cells} for tried in every}
    names = [
        f"{tried.name}: {text}" for tried in every for text in tried.pictures.captions[:_SHOWN]
    ]
    first, indices = every[0].table, range(min(_SHOWN, every[0].table.protocol.n))

    def column(cell: CellRecord) -> Column:
        read = [tried.pictures.read(tables[tried.name][cell.id], indices) for tried in every]
        return Column(cell, marks(first)[cell.painter], [p for pictures in read for p in pictures])

    cells = [teacher_cell(first), *by_steps(first, ADAPTER, min), *_usual_solver(every)]
    return comparison_grid([column(cell) for cell in cells], names)


def _usual_solver(every: Sequence[Tried]) -> list[CellRecord]:
    """Return the solver that is strongest on most subjects, at the cost of the judged cell."""
    found = (standing(tried, tried.leading, tried.cell) for tried in every)
    solvers = [one.solver.cell.id for one in found if one and one.solver]
    usual = [name for name, _ in Counter(solvers).most_common(1)]
    return [cell for cell in every[0].table.cells if cell.id in usual]


def picture_maps(tried: Tried) -> list[PictureMap]:
    """Return the first prompts at every point of the map; none without a map."""
    if not tried.points:
        return []
    painted = {point.mix: _small(tried.pictures, point.cell) for point in tried.points}
    own = _small(tried.pictures, teacher_cell(tried.table))
    return [
        _picture_map(teacher, {mix: thumbs[i] for mix, thumbs in painted.items()})
        for i, teacher in enumerate(own)
    ]


def _picture_map(teacher: Thumb, painted: Mapping[Mix, Thumb]) -> PictureMap:
    def at(mix: Mix) -> Painted:
        return Painted(mix.acceleration, painted[mix], mix == WHOLE)

    across = tuple(sorted({mix.acceleration for mix in painted}))
    styles = sorted({mix.style for mix in painted}, reverse=True)
    rows = tuple((style, tuple(at(Mix(a, style)) for a in across)) for style in styles)
    return PictureMap(teacher.caption, teacher, across, rows)


def _small(pictures: Pictures, cell: CellRecord) -> list[Thumb]:
    """Read a cell's first pictures, and shrink them before others are read."""
    indices = range(min(_SHOWN, pictures.table.protocol.n))
    read = zip(pictures.captions, pictures.read(cell, indices), strict=False)
    return [thumb(picture, caption, side=_SIDE) for caption, picture in read]
