"""Pictures of one prompt as one picture: a row a painter, a column a number of steps."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby

from PIL import Image, ImageDraw, ImageFont

from lcm_lora.painting.start import Start
from lcm_lora.report.style import COLOURS, INK, PAPER, TINY, how_title, painter_title
from lcm_lora.showing.asked import Asked
from lcm_lora.showing.cost import evaluations_of

_OTHERS = "#009e73"
_ENLARGED = 192


def sheet(
    prompt: str,
    asked: Sequence[Asked],
    pictures: Sequence[Image.Image],
    which: Mapping[str, str] | None = None,
    start: Start | None = None,
    told: str = "",
) -> Image.Image:
    """Draw the pictures with who painted each, and how.

    Args:
        prompt: What all show; it heads the sheet.
        asked: Who painted, a painter's pictures side by side.
        pictures: One of each, all of one size.
        which: More about a painter, such as the champion's version, by its name.
        start: What all painted over, which decides how many network evaluations each took.
        told: What else all were told, such as styles and their weights; it is below the prompt.
    """
    large = [_enlarged(picture) for picture in pictures]
    pairs = list(zip(asked, large, strict=True))
    rows = [list(row) for _, row in groupby(pairs, key=lambda pair: pair[0].painter)]
    side, text = large[0].width, max(16, large[0].width // 16)
    gap, line = text // 2, round(1.5 * text)
    width = max(max(map(len, rows)), 2) * (side + gap) + gap
    letters = max(12, int((width - 2 * gap) / (0.58 * text)))
    heading = textwrap.wrap(prompt, letters)[:4] + textwrap.wrap(told, letters)[:4]
    head, row_height = 2 * gap + line * len(heading), 4 * line + side
    drawn = Image.new("RGB", (width, head + len(rows) * row_height + gap), PAPER)
    draw, font = ImageDraw.Draw(drawn), ImageFont.load_default(text)
    for i, words in enumerate(heading):
        draw.text((gap, gap + i * line), words, INK, font)
    for i, row in enumerate(rows):
        top, painter = head + i * row_height, row[0][0].painter
        right = gap + len(row) * (side + gap) - gap
        title = ", ".join(filter(None, [painter_title(painter), (which or {}).get(painter)]))
        title = textwrap.shorten(title, letters, placeholder="…")
        draw.text((gap, top + line - 6), title, INK, font, anchor="ls")
        draw.rectangle((gap, top + line, right - 1, top + line + 3), colour_of(painter))
        for j, (one, picture) in enumerate(row):
            left = gap + j * (side + gap)
            draw.text((left, top + 2 * line), how_title(one.cell), INK, font, anchor="ls")
            cost = evaluations_of(one, start)
            draw.text((left, top + 3 * line), cost, INK, font, anchor="ls")
            drawn.paste(picture, (left, top + 3 * line + gap))
    return drawn


def colour_of(painter: str) -> str:
    """Return the colour that marks a painter."""
    return COLOURS.get(painter, _OTHERS)


def _enlarged(picture: Image.Image) -> Image.Image:
    scale = max(1, _ENLARGED // picture.width) if picture.width <= TINY else 1
    size = (scale * picture.width, scale * picture.height)
    return picture.resize(size, Image.Resampling.NEAREST)
