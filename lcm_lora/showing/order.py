"""What is asked of all painters alike: one prompt, one noise, and what is added to both."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lcm_lora.painting.start import Start
from lcm_lora.painting.subject import Subject, Weighted
from lcm_lora.params.generate import ADAPTER, CHAMPION

ACCELERATED = (ADAPTER, CHAMPION)
"""Painters whose first adapter is a distilled one."""


@dataclass(frozen=True, slots=True)
class Weights:
    """How much of the acceleration, l1, and of which styles, each with its l2."""

    acceleration: float = 1.0
    styles: tuple[Weighted, ...] = ()

    def on(self, painter: str, subject: Subject) -> Subject:
        """Return who a painter is with these weights; a style of weight 0 is none."""
        own = subject.adapters
        if painter in ACCELERATED:
            first, *rest = own
            own = (replace(first, weight=first.weight * self.acceleration), *rest)
        worn = (style for style in self.styles if style.weight)
        return replace(subject, adapters=(*own, *worn))


PLAIN = Weights()


@dataclass(frozen=True, slots=True)
class Order:
    """What is painted, whoever paints it."""

    prompt: str
    seed: int
    negative: str | None = None
    """What guidance leads away from; it acts above 1 alone."""
    start: Start | None = None
    """What is painted over; None begins with noise alone."""
    weights: Weights = PLAIN
