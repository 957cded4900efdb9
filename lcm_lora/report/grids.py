"""Grids of pictures: samplers side by side from the same noise, and sheets of one image set."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

from lcm_lora.evaluation.image_sets import read_pictures
from lcm_lora.evaluation.table import ADAPTER, SOLVERS, Row, Table
from lcm_lora.params.generate import Cell
from lcm_lora.report.style import COLOURS, NAMES, steps_title

_TINY = 64
"""Pictures up to this side are enlarged by whole numbers, without smoothing."""

_ENLARGED, _SHRUNK = 96, 192
_GAP, _GROUP_GAP = 4, 20
_HEADER, _CAPTION = 92, 320
_LINE, _TEXT = 23, 19


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of a grid's paper and text."""

    paper: str
    ink: str
    faint: str


LIGHT = Theme("#ffffff", "#1c2127", "#68707a")
DARK = Theme("#14171b", "#e6e9ed", "#98a1ac")


@dataclass(frozen=True, slots=True)
class Column:
    """One image set of a grid."""

    sampler: str
    steps: int
    nfe: int
    pictures: list[Image.Image]


def comparison_columns(table: Table, images: Path, rows: int) -> list[Column]:
    """Read the first `rows` pictures of the teacher, the adapter and the guided solvers.

    A solver that only ran plain is shown plain.
    """
    indices = list(range(min(rows, table.protocol["n"])))
    reference = table.protocol["reference"]["teacher"]
    chosen = table.select(sampler="teacher", metric="clip_score", **reference)
    for sampler in (ADAPTER, *SOLVERS):
        cells = table.select(sampler=sampler, metric="clip_score", seeds=0)
        guided = [cell for cell in cells if cell.guidance > 1]
        chosen += guided or cells
    return [
        Column(row.sampler, row.steps, row.nfe, read_pictures(tar_of(images, row), indices))
        for row in chosen
    ]


def tar_of(images: Path, row: Row) -> Path:
    """Return where the pictures of a row are."""
    cell = Cell(steps=row.steps, guidance=row.guidance, seeds=row.seeds)
    return images / row.sampler / f"{cell.name}.tar"


def comparison_grid(
    columns: Sequence[Column], captions: Sequence[str], theme: Theme = LIGHT
) -> Image.Image:
    """Draw one row a caption and one column an image set, samplers apart, with headers."""
    side = _shown(columns[0].pictures[0]).width
    lefts, x = [], _CAPTION
    for i, column in enumerate(columns):
        x += _GROUP_GAP if i and columns[i - 1].sampler != column.sampler else 0
        lefts.append(x)
        x += side + _GAP
    rows = len(columns[0].pictures)
    height = _HEADER + rows * (side + _GAP) + _GAP
    sheet = Image.new("RGB", (x + _GAP, height), theme.paper)
    draw = ImageDraw.Draw(sheet)
    _draw_headers(draw, columns, lefts, side, theme)
    for i in range(rows):
        top = _HEADER + i * (side + _GAP)
        _write(draw, captions[i], (_GAP + 2, top + side / 2), _CAPTION - 16, theme.ink, anchor="l")
        for left, column in zip(lefts, columns, strict=True):
            sheet.paste(_shown(column.pictures[i]), (left, top))
    return sheet


def step_grid(
    pictures: Sequence[Image.Image], captions: Sequence[str], columns: int = 4
) -> Image.Image:
    """Draw a sheet of pictures of one image set, each over its caption."""
    shown = [_shown(picture) for picture in pictures]
    width, below = max(shown[0].width, 210), 4 * _LINE + 8
    columns = min(columns, len(shown))
    lines = -(-len(shown) // columns)
    size = (columns * (width + 12) + 12, lines * (shown[0].height + below + 12) + 12)
    sheet = Image.new("RGB", size, LIGHT.paper)
    draw = ImageDraw.Draw(sheet)
    for i, (picture, caption) in enumerate(zip(shown, captions, strict=True)):
        left = 12 + i % columns * (width + 12)
        top = 12 + i // columns * (picture.height + below + 12)
        sheet.paste(picture, (left + (width - picture.width) // 2, top))
        centre = left + width / 2, top + picture.height + below / 2
        _write(draw, caption, centre, width, LIGHT.ink, anchor="m")
    return sheet


def _draw_headers(
    draw: ImageDraw.ImageDraw,
    columns: Sequence[Column],
    lefts: Sequence[int],
    side: int,
    theme: Theme,
) -> None:
    places = list(zip(lefts, columns, strict=True))
    for sampler, group in groupby(places, key=lambda place: place[1].sampler):
        members = list(group)
        left, right = members[0][0], members[-1][0] + side
        draw.text((left, 24), NAMES[sampler], theme.ink, _font(24), anchor="ls")
        draw.rectangle((left, 33, right - 1, 37), COLOURS[sampler])
    for left, column in places:
        draw.text((left, 60), steps_title(column.steps), theme.ink, _font(20), anchor="ls")
        cost = "1 eval." if column.nfe == 1 else f"{column.nfe} evals."
        draw.text((left, 82), cost, theme.faint, _font(18), anchor="ls")


def _write(
    draw: ImageDraw.ImageDraw,
    text: str,
    place: tuple[float, float],
    width: int,
    ink: str,
    anchor: Literal["l", "m"],
) -> None:
    """Write text in up to four lines, centred vertically about `place`."""
    lines = textwrap.wrap(text, max(8, int(width / 9.3)), max_lines=4, placeholder=" …")
    x, top = place[0], place[1] - _LINE * (len(lines) - 1) / 2
    for i, line in enumerate(lines):
        draw.text((x, top + i * _LINE), line, ink, _font(_TEXT), anchor=f"{anchor}m")


def _shown(picture: Image.Image) -> Image.Image:
    """Return a picture at the size at which grids show it."""
    longest = max(picture.size)
    if longest <= _TINY:
        scale = max(1, round(_ENLARGED / longest))
        size = (picture.width * scale, picture.height * scale)
        return picture.resize(size, Image.Resampling.NEAREST)
    shrunk = picture.copy()
    shrunk.thumbnail((_SHRUNK, _SHRUNK), Image.Resampling.LANCZOS)
    return shrunk


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
