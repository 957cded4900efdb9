"""What samplers are measured on."""

from __future__ import annotations

from pydantic import Field

from lcm_lora.params.section import Section
from lcm_lora.params.sources import Source


class Evaluation(Section):
    """The evaluation set, and the small set for the choice of a checkpoint."""

    source: Source | None
    """A fixed source of its own, which stays while data grows; null takes the first pictures that
    prepare.held_out keeps."""
    prompts: int = Field(ge=4, le=1_000_000)
    """Captions to paint; as many other pictures are what samplers are compared with."""
    selection: int = Field(ge=1, le=100_000)
    """Captions for the choice of a checkpoint, from those that prepare.selection keeps."""
