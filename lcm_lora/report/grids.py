"""Grids of pictures as one picture: painters side by side from the same noise."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from PIL import Image, ImageDraw, ImageFont

from lcm_lora.evaluation.scores import CellRecord, Table
from lcm_lora.params.generate import ADAPTER, CHAMPION, REAL, TEACHER
from lcm_lora.report.pictures import Pictures
from lcm_lora.report.style import INK, PAPER, TINY, Mark, marks, steps_title
from lcm_lora.report.verdict import teacher_cell

_ENLARGED, _SHRUNK = 96, 192
_GAP, _GROUP_GAP = 4, 20
_HEADER, _CAPTION = 92, 320
_LINE, _TEXT = 23, 19


_FAINT = "#68707a"


@dataclass(frozen=True, slots=True)
class Column:
    """One image set of a grid."""

    cell: CellRecord
    mark: Mark
    pictures: list[Image.Image]


def compared_cells(table: Table) -> list[CellRecord]:
    """Return the cells of the comparison: the teacher, the adapter, the champion and the rivals.

    Each painter at every number of steps, of its first noises: adapter and champion at their least
    guidance, rivals at their highest.
    """
    others = dict.fromkeys(cell.painter for cell in table.cells)
    rivals = [name for name in others if name not in {TEACHER, REAL, ADAPTER, CHAMPION}]
    return [
        teacher_cell(table),
        *(cell for name in (ADAPTER, CHAMPION) for cell in by_steps(table, name, min)),
        *(cell for name in rivals for cell in by_steps(table, name, max)),
    ]


def columns_of(pictures: Pictures, cells: Sequence[CellRecord], rows: int) -> list[Column]:
    """Read the first `rows` pictures of cells."""
    mark, indices = marks(pictures.table), range(min(rows, pictures.table.protocol.n))
    return [Column(cell, mark[cell.painter], pictures.read(cell, indices)) for cell in cells]


def comparison_grid(columns: Sequence[Column], captions: Sequence[str]) -> Image.Image:
    """Draw one row a caption and one column an image set, painters apart, with headers."""
    side = shown(columns[0].pictures[0]).width
    lefts, x = [], _CAPTION
    for i, column in enumerate(columns):
        x += _GROUP_GAP if i and columns[i - 1].cell.painter != column.cell.painter else 0
        lefts.append(x)
        x += side + _GAP
    rows = len(columns[0].pictures)
    height = _HEADER + rows * (side + _GAP) + _GAP
    sheet = Image.new("RGB", (x + _GAP, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_headers(draw, columns, lefts, side)
    for i in range(rows):
        top = _HEADER + i * (side + _GAP)
        _write(draw, captions[i], (_GAP + 2, top + side / 2), _CAPTION - 16)
        for left, column in zip(lefts, columns, strict=True):
            sheet.paste(shown(column.pictures[i]), (left, top))
    return sheet


def by_steps(table: Table, painter: str, pick: Callable[..., CellRecord]) -> list[CellRecord]:
    """Return a painter's cell of each number of steps, of the first noises, by its guidance."""
    cells = table.cells_of(painter, seeds=0)
    steps = dict.fromkeys(cell.steps for cell in cells)
    return [
        pick((cell for cell in cells if cell.steps == n), key=lambda cell: cell.guidance)
        for n in steps
    ]


def _draw_headers(
    draw: ImageDraw.ImageDraw,
    columns: Sequence[Column],
    lefts: Sequence[int],
    side: int,
) -> None:
    places = list(zip(lefts, columns, strict=True))
    for mark, group in groupby(places, key=lambda place: place[1].mark):
        members = list(group)
        left, right = members[0][0], members[-1][0] + side
        room = max(4, (right - left) // 12)
        title = textwrap.shorten(mark.title, room, placeholder="…") or mark.title[:room]
        draw.text((left, 24), title, INK, _font(22), anchor="ls")
        draw.rectangle((left, 33, right - 1, 37), mark.colour)
    for left, column in places:
        steps = steps_title(column.cell.steps)
        draw.text((left, 60), steps, INK, _font(20), anchor="ls")
        cost = "1 eval." if column.cell.nfe == 1 else f"{column.cell.nfe} evals."
        draw.text((left, 82), cost, _FAINT, _font(18), anchor="ls")


def _write(
    draw: ImageDraw.ImageDraw,
    text: str,
    place: tuple[float, float],
    width: int,
) -> None:
    """Write text in up to four lines, centred vertically about `place`."""
    lines = textwrap.wrap(text, max(8, int(width / 9.3)), max_lines=4, placeholder=" …")
    x, top = place[0], place[1] - _LINE * (len(lines) - 1) / 2
    for i, line in enumerate(lines):
        draw.text((x, top + i * _LINE), line, INK, _font(_TEXT), anchor="lm")


def shown(picture: Image.Image) -> Image.Image:
    """Return a picture at the size at which grids show it."""
    longest = max(picture.size)
    if longest <= TINY:
        scale = max(1, round(_ENLARGED / longest))
        size = (picture.width * scale, picture.height * scale)
        return picture.resize(size, Image.Resampling.NEAREST)
    shrunk = picture.copy()
    shrunk.thumbnail((_SHRUNK, _SHRUNK), Image.Resampling.LANCZOS)
    return shrunk


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
