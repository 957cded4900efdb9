"""How source pictures become training shards."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from lcm_lora.params.section import Section
from lcm_lora.params.sources import ShapesSource, Source


class Prepare(Section):
    """Source pictures to filtered, cropped, captioned shards."""

    source: Source = ShapesSource()
    resolution: int = Field(32, ge=8, le=4096, multiple_of=8)
    """Pixels of a side; the shorter side is scaled to it and the centre is kept."""
    min_side: int = Field(32, ge=1, le=65536)
    """Smaller pictures are rejected rather than enlarged."""
    held_out: float = Field(0.12, ge=0, lt=1)
    """Share of samples kept out of training for the evaluation set, chosen by content hash."""
    selection: float = Field(0.01, gt=0, lt=1)
    """Share kept out of both for the choice of a checkpoint, chosen likewise."""
    quality: int | None = Field(None, ge=50, le=100)
    """WebP quality of training pictures; null keeps every bit of them, as PNG."""
    shard_samples: int = Field(1024, ge=1, le=100_000)
    """Samples of a shard, at most."""

    @model_validator(mode="after")
    def _some_left(self) -> Self:
        if self.held_out + self.selection >= 1:
            raise ValueError(
                f"held_out {self.held_out:g} and selection {self.selection:g} leave no training"
            )
        return self
