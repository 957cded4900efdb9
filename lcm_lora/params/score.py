"""What is measured."""

from __future__ import annotations

from pydantic import Field

from lcm_lora.params.section import Section
from lcm_lora.params.values import Seed, Text


class Score(Section):
    """What is measured on every image set."""

    features: Text = "shapes"
    """Network of the distances: `shapes`, or the 2015 Inception TorchScript file."""
    clip: Text = "shapes"
    """CLIP of the CLIP score: `shapes`, or a transformers CLIP folder."""
    attributes: bool = True
    """Judge shapes, colours and ground; for the shapes world only."""
    resamples: int = Field(400, ge=2, le=100_000)
    """Bootstrap resamples behind each standard error and interval."""
    seed: Seed = 0
