"""Read from a caption of the shapes world what its picture must show."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

from lcm_lora.errors import UserError
from lcm_lora.shapes.judge import Attributes
from lcm_lora.shapes.scenes import COLOURS, GROUNDS, PAIRS, RADII, SHAPES

_FIGURE = rf"a ({'|'.join(RADII)}) ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})"
_CAPTION = re.compile(
    rf"(?P<figures>(?:{_FIGURE}, )*(?:{_FIGURE} and )?{_FIGURE})"
    rf" on a (?P<ground>{'|'.join(GROUNDS)}) background"
)
_SIZES, _GROUNDS = tuple(RADII), tuple(GROUNDS)


def attributes_of_captions(captions: Sequence[str]) -> Attributes:
    """Return the attributes that captions promise; the inverse of `Scene.caption`.

    Raises:
        UserError: A caption is not of the shapes world.
    """
    figures = torch.zeros(len(captions), len(PAIRS), len(_SIZES), dtype=torch.bool)
    ground = torch.zeros(len(captions), dtype=torch.int64)
    for i, caption in enumerate(captions):
        found = _CAPTION.fullmatch(caption)
        if found is None:
            raise UserError(
                f"score.attributes: caption {i} is not of the shapes world: {caption[:80]!r}; "
                "set score.attributes to false and looks to null"
            )
        for size, colour, shape in re.findall(_FIGURE, found["figures"]):
            figures[i, PAIRS.index((shape, colour)), _SIZES.index(size)] = True
        ground[i] = _GROUNDS.index(found["ground"])
    return Attributes(figures, ground)
