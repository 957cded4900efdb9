"""How the best candidate of a training is chosen."""

from __future__ import annotations

from pydantic import Field

from lcm_lora.params.section import Section
from lcm_lora.params.values import Seed, Text


class Select(Section):
    """Which candidate becomes the adapter: the best one on the captions of the selection set."""

    metric: Text
    """As in the table of scores: `attributes`, `clip_score`, or the kernel distance to the
    selection set's own pictures, `kid:real` or `kid_shapes:real`."""
    steps: int = Field(ge=1, le=10_000)
    """Sampling steps of the pictures that candidates are judged by."""
    guidance: float = Field(1.0, ge=0, le=100)
    batch: int = Field(16, ge=1, le=65536)
    """Pictures that are made at a time."""
    seed: Seed = 0
    """Of the noise, the same for every candidate."""
