"""When new data count as drifted away from the champion's."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lcm_lora.params.section import Section
from lcm_lora.params.values import Seed

_Margin = Annotated[float, Field(ge=0, le=1e9)]


class Drift(Section):
    """How new training data are compared with those of the champion, and what follows."""

    pictures: int = Field(512, ge=16, le=100_000)
    """Of each side; drawn at random."""
    distance: _Margin = 0.02
    """How far pictures or captions may lie from those before: a share of the variance of those."""
    fit: _Margin = 0.2
    """By how much the mean CLIP score of picture and caption may move, either way: a share of its
    standard deviation before."""
    seed: Seed = 0
    """Of the draw."""
    retrain: bool = False
    """Ask for a new adapter when data have drifted; else it is only said."""
