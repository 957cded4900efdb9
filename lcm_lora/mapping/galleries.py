"""Which pictures the page shows: painters side by side, and one prompt at every pair of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image

from lcm_lora.evaluation.scores import CellRecord
from lcm_lora.mapping.standing import standing
from lcm_lora.mapping.subjects import WHOLE, Tried
from lcm_lora.params.generate import ADAPTER
from lcm_lora.params.transfer import Mix
from lcm_lora.report.grids import by_steps
from lcm_lora.report.thumbs import SheetColumn, Thumb, columns, thumb
from lcm_lora.report.verdict import teacher_cell

_SHOWN = 2
"""Prompts of which every point of the map is shown."""
_SIDE = 144
"""Pixels of such a picture's side, at most: there are many of them, and they are shown small."""


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
    read = {point.mix: tried.pictures.read(point.cell, indices) for point in tried.points}
    own = tried.pictures.read(teacher_cell(tried.table), indices)
    return [
        _picture_map(caption, teacher, {mix: found[i] for mix, found in read.items()})
        for i, caption, teacher in zip(indices, tried.pictures.captions, own, strict=False)
    ]


def _picture_map(
    caption: str, teacher: Image.Image, painted: Mapping[Mix, Image.Image]
) -> PictureMap:
    def at(mix: Mix) -> Painted:
        return Painted(mix.acceleration, _small(painted[mix], caption), mix == WHOLE)

    across = tuple(sorted({mix.acceleration for mix in painted}))
    styles = sorted({mix.style for mix in painted}, reverse=True)
    rows = tuple((style, tuple(at(Mix(a, style)) for a in across)) for style in styles)
    return PictureMap(caption, _small(teacher, caption), across, rows)


def _small(picture: Image.Image, caption: str) -> Thumb:
    return thumb(picture, caption, side=_SIDE)
