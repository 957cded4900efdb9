"""What the report shows."""

from __future__ import annotations

from pydantic import Field

from lcm_lora.params.section import Section
from lcm_lora.params.values import Text


class Report(Section):
    """What the report shows."""

    title: Text
    rows: int = Field(8, ge=1, le=500)
    """Prompts that are shown side by side."""
    worst: int = Field(12, ge=1, le=500)
    """How many of the adapter's worst pictures are shown; and half as many each of those that are
    most better and most worse than the champion's."""
