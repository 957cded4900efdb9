"""The two looks of the shapes world: scenes drawn in ink, scenes at dusk, or both.

A look changes how a scene is painted and never what its caption says of it. `ink` is what the
shipped style has learnt: each figure is two strokes with the ground between them. `dusk` is what
the shipped fine-tune has: a line of evening light low across the ground, behind the figures. Both
are made of the world's own colours on plain grounds, for its autoencoder knows no others.

Legend: B scenes, H = W pixels a side. Lengths are in units of the picture's side.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from lcm_lora.params.score import Look
from lcm_lora.shapes.scenes import COLOURS, Scene, colours, coverages, painted, plain

_GAP = 0.055
"""Between the strokes of a figure: not two pixels of 32."""
_TURN = {"cross": math.pi / 4}
"""How the gap lies in a figure, against its height: between the arms of a cross, not along one."""

_LIGHT = COLOURS["orange"]
_HORIZON, _GLOW, _MARGIN = 0.8, 0.07, 0.04
"""Of the line of light: its middle from the top, its thickness, and how far it ends from edges."""
_HALO = 0.03
"""How far it keeps from figures."""


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
    if "dusk" in looks:
        ground = _lit(ground, scenes)
    canvas = painted(ground, scenes)
    if "ink" in looks:
        gap = _gaps(scenes, pixels)
        canvas = canvas + gap * (ground - canvas)
    return colours(canvas)


def _lit(ground: NDArray[np.float32], scenes: Sequence[Scene]) -> NDArray[np.float32]:
    """Return the ground with a line of light wherever no figure is near."""
    pixels = ground.shape[1]
    centres = (np.arange(pixels, dtype=np.float32) + 0.5) / pixels
    high = np.clip(0.5 - (np.abs(centres - _HORIZON) - _GLOW / 2) * pixels, 0, 1)
    wide = np.clip(0.5 - (np.abs(centres - 0.5) - (0.5 - _MARGIN)) * pixels, 0, 1)
    line = high[:, None] * wide[None, :]
    near = np.zeros(ground.shape[:3], np.float32)
    for owners, _, covered in coverages(scenes, pixels, grown=_HALO):
        np.maximum.at(near, owners, covered)
    light = (line * (1 - near))[..., None]
    return np.asarray(ground + light * (np.array(_LIGHT, np.float32) - ground), np.float32)


def _gaps(scenes: Sequence[Scene], pixels: int) -> NDArray[np.float32]:
    """Return how much of each pixel the gaps between strokes take, [B, H, W, 1] in 0..1."""
    gaps = np.zeros((len(scenes), pixels, pixels), np.float32)
    centres = (np.arange(pixels, dtype=np.float32) + 0.5) / pixels
    for owners, figures, reach in coverages(scenes, pixels, grown=_HALO):
        place = [(f.x, f.y, f.angle + _TURN.get(f.shape, 0)) for f in figures]
        x, y, angle = (column[:, None, None] for column in np.array(place, np.float32).T)
        dx, dy = centres[None, None, :] - x, centres[None, :, None] - y
        off = np.abs(np.cos(angle) * dx + np.sin(angle) * dy)
        np.maximum.at(gaps, owners, np.clip(0.5 - (off - _GAP / 2) * pixels, 0, 1) * (reach > 0))
    return gaps[..., None]
