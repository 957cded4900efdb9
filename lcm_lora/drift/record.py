"""What came out when new data were compared with those of before."""

from __future__ import annotations

from lcm_lora.records import Record


class Quantity(Record):
    """One comparison: its value, its interval, and how far it may go."""

    name: str
    value: float
    low: float
    high: float
    margin: float
    has_drifted: bool
    """The whole interval lies beyond the margin."""


class DriftRecord(Record):
    """New data against those of before."""

    before: int
    """Samples that were compared, of the data of before and of the new ones."""
    now: int
    level: float
    quantities: tuple[Quantity, ...]

    @property
    def has_drifted(self) -> bool:
        """Tell whether any quantity has."""
        return any(quantity.has_drifted for quantity in self.quantities)

    @property
    def words(self) -> str:
        """One line for people."""
        moved = [q for q in self.quantities if q.has_drifted]
        if not moved:
            return f"no drift: {self.now} new samples are like {self.before} of before"
        told = ", ".join(f"{q.name} {q.value:.3g} (margin {q.margin:g})" for q in moved)
        return f"drifted: {told}"
