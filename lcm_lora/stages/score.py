"""Features to one tidy table, with standard errors and paired differences."""

from __future__ import annotations

from lcm_lora import layout
from lcm_lora.evaluation.table import score
from lcm_lora.params.reading import load_section
from lcm_lora.params.score import Score


def run() -> None:
    """Run the stage in the working folder."""
    score(load_section(layout.PARAMS, Score), layout.FEATURES, layout.SCORES)
