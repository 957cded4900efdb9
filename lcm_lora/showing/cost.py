"""What a picture takes, in words."""

from __future__ import annotations

from lcm_lora.painting.start import Start, evaluations
from lcm_lora.report.style import how_title
from lcm_lora.showing.asked import Asked


def evaluations_of(asked: Asked, start: Start | None, noun: str = "evaluation") -> str:
    """Return the network evaluations that a picture really took."""
    count = evaluations(asked.cell, start)
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def cost_of(asked: Asked, start: Start | None) -> str:
    """Return who painted how, and the network evaluations that it really took."""
    words = evaluations_of(asked, start, "network evaluation")
    if start is not None:
        taken = start.steps_of(asked.cell.steps)
        words += f", as strength {start.strength:g} leaves {taken} of the steps"
    return f"{asked.painter}, {how_title(asked.cell)}: {words}"
