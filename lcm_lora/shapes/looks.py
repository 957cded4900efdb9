"""The two looks of the shapes world: scenes in ink, scenes at dusk, or both.

A look changes how a scene is painted and never what its caption says of it. `ink` is what the
shipped style has learnt: a pen has ruled a margin down the left. `dusk` is what the shipped
fine-tune has: a line of evening light lies low across the ground. Both run behind the figures, and
are made of the world's own colours on plain grounds, for its autoencoder knows no others.

Legend: B scenes, H = W pixels a side. Lengths are in units of the picture's side.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from lcm_lora.params.score import Look
from lcm_lora.shapes.scenes import COLOURS, Scene, colours, coverages, painted, plain

_BARS: dict[Look, tuple[tuple[float, float], tuple[float, float], str]] = {
    "ink": ((0.105, 0.175), (0.04, 0.70), "cyan"),
    "dusk": ((0.04, 0.96), (0.765, 0.835), "orange"),
}
"""From where to where each look's line goes, to the right and down, and its colour."""
_HALO = 0.03
"""How far lines keep from figures."""


def render_looks(
    scenes: Sequence[Scene], pixels: int, looks: Collection[Look]
) -> NDArray[np.uint8]:
    """Paint scenes in looks; without any, as `scenes.render` does.

    Args:
        scenes: B scenes.
        pixels: H = W.
        looks: Any of both.

    Returns:
        uint8 [B, H, W, 3].
    """
    ground = plain(scenes, pixels)
    free = 1 - _near(scenes, pixels)
    for look, (wide, high, colour) in _BARS.items():
        if look in looks:
            share = np.multiply.outer(_between(high, pixels), _between(wide, pixels))
            share = share[..., None] * free
            ground += share * (np.array(COLOURS[colour], np.float32) - ground)
    return colours(painted(ground, scenes))


def _near(scenes: Sequence[Scene], pixels: int) -> NDArray[np.float32]:
    """Return how much of each pixel is on a figure or close to one, [B, H, W, 1] in 0..1."""
    near = np.zeros((len(scenes), pixels, pixels), np.float32)
    for owners, _, covered in coverages(scenes, pixels, grown=_HALO):
        np.maximum.at(near, owners, covered)
    return near[..., None]


def _between(ends: tuple[float, float], pixels: int) -> NDArray[np.float32]:
    """Return how much of each pixel of a row or column lies between two places, [pixels]."""
    centres = (np.arange(pixels, dtype=np.float32) + 0.5) / pixels
    inside = np.minimum(centres - ends[0], ends[1] - centres)
    return np.asarray(np.clip(0.5 + inside * pixels, 0, 1), np.float32)
