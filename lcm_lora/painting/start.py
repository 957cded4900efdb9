"""A picture to start from in place of noise, and what painting over it costs.

Diffusers' image-to-image and inpainting pipelines take the last `int(steps * strength)` of the
steps that they are asked for, so a strength below 1 lowers the cost with the change.

Legend: H x W pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image

from lcm_lora.errors import UserError
from lcm_lora.params.generate import Cell


@dataclass(frozen=True, slots=True)
class Start:
    """A picture to paint over: all of it, or what a mask covers."""

    picture: Image.Image
    """RGB, H x W, of the size that is painted."""
    strength: float
    """From 0, which changes nothing, to 1, of which nothing but the mask's surroundings is left."""
    mask: Image.Image | None = None
    """Grey, H x W; from the middle grey upwards is painted, the rest is kept."""

    def steps_of(self, steps: int) -> int:
        """Return how many of the steps that are asked for are taken, as diffusers counts them."""
        return min(int(steps * self.strength), steps)


def evaluations(cell: Cell, start: Start | None) -> int:
    """Return the network evaluations that a picture really takes, after its strength."""
    taken = start.steps_of(cell.steps) if start else cell.steps
    return cell.model_copy(update={"steps": taken}).nfe


def check_leaves_steps(cell: Cell, start: Start | None) -> None:
    """Refuse a strength that leaves nothing to do.

    Raises:
        UserError: No step of the cell's is left.
    """
    if start is None or start.steps_of(cell.steps):
        return
    if not start.strength:
        raise UserError("--strength 0: changes nothing; ask for more, up to 1")
    least, more = math.ceil(100 / cell.steps) / 100, math.ceil(1 / start.strength)
    raise UserError(
        f"--strength {start.strength:g}: of {cell.steps} steps none is left; ask for --strength "
        f"{least:g} or more, or for {more} steps or more"
    )
