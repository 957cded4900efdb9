"""A sheet of what variants of an adapter paint from the same captions and noises."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from bench.arithmetic.painted import COMMAND, FEW, MANY, Place
from bench.arithmetic.variants import NOTHING, WHOLE, ranked, without
from lcm_lora.params.generate import TEACHER
from lcm_lora.report.style import INK, PAPER
from lcm_lora.seeing.image_sets import read_pictures

_SHOWN = {
    TEACHER: "teacher, many steps, other noise",
    WHOLE: "whole adapter",
    ranked(1): "rank 1",
    ranked(4): "rank 4",
    without("convolutions"): "without convolutions",
    without("time"): "without time",
    without("cross-attention"): "without cross-attention",
    without("up"): "without up blocks",
    NOTHING: "no adapter",
}
_COUNT, _SIDE, _GAP, _LEFT = 8, 64, 4, 230


def sheet(place: Place, out: Path) -> None:
    """Write the first pictures of the teacher and of the variants that tell most, a row each."""
    rows = {name: title for name, title in _SHOWN.items() if (place.images / name).is_dir()}
    step = _SIDE + _GAP
    made = Image.new("RGB", (_LEFT + _COUNT * step, len(rows) * step + _GAP), PAPER)
    draw = ImageDraw.Draw(made)
    for row, (name, title) in enumerate(rows.items()):
        top = _GAP + row * step
        middle = (_GAP, top + _SIDE / 2)
        draw.text(middle, title, INK, ImageFont.load_default(15), anchor="lm")
        for column, picture in enumerate(_pictures(place, name)):
            made.paste(picture, (_LEFT + column * step, top))
    made.save(out, optimize=True)


def _pictures(place: Place, name: str) -> list[Image.Image]:
    cell = MANY if name == TEACHER else FEW
    tar = place.images / name / f"{cell.name}.tar"
    count = min(_COUNT, len(place.theme.captions))
    pictures = read_pictures(tar, list(range(count)), COMMAND)
    return [picture.resize((_SIDE, _SIDE), Image.Resampling.NEAREST) for picture in pictures]
