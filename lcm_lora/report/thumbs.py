"""Pictures as they stand in a page: data of its own, in small, and side by side in columns."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from lcm_lora.evaluation.scores import CellRecord
from lcm_lora.params.generate import TEACHER
from lcm_lora.report.pictures import Pictures
from lcm_lora.report.style import TINY, Mark, how_title, marks

_LARGEST = 288
"""Pixels of a side, at most; tiny pictures are kept exactly."""


@dataclass(frozen=True, slots=True)
class Thumb:
    """A picture in the page."""

    url: str
    width: int
    height: int
    caption: str
    notes: tuple[str, ...] = ()
    """What single metrics say of it."""

    @property
    def is_tiny(self) -> bool:
        """Enlarged without smoothing."""
        return max(self.width, self.height) <= TINY


@dataclass(frozen=True, slots=True)
class SheetColumn:
    """One cell's pictures in a sheet."""

    mark: Mark
    how: str
    steps: int
    """0 for the teacher, who stands beside all."""
    thumbs: tuple[Thumb, ...]


def columns(
    pictures: Pictures, cells: Sequence[CellRecord], indices: Sequence[int]
) -> list[SheetColumn]:
    """Return a column for each cell, of the pictures at `indices`."""
    mark = marks(pictures.table)
    return [
        SheetColumn(
            mark[cell.painter],
            how_title(cell),
            0 if cell.painter == TEACHER else cell.steps,
            tuple(
                thumb(picture, pictures.captions[i])
                for i, picture in zip(indices, pictures.read(cell, indices), strict=True)
            ),
        )
        for cell in cells
    ]


def thumb(
    picture: Image.Image, caption: str, notes: tuple[str, ...] = (), side: int = _LARGEST
) -> Thumb:
    """Return a picture as it stands in a page: tiny ones exactly, others shrunk, as JPEG.

    Args:
        picture: Of any size.
        caption: What it shows.
        notes: What single metrics say of it.
        side: Pixels of its longer side, at most.
    """
    content = io.BytesIO()
    if max(picture.size) <= TINY:
        picture.save(content, "PNG")
        kind = "png"
    else:
        picture = picture.copy()
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
        picture.save(content, "JPEG", quality=88)
        kind = "jpeg"
    url = f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"
    return Thumb(url, picture.width, picture.height, caption, notes)
