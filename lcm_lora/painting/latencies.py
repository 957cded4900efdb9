"""How long pictures take, as a record: the denoiser alone, and whole pictures."""

from __future__ import annotations

from pathlib import Path

from lcm_lora.records import Record, read_record


class CellLatency(Record):
    """The time of a picture of the cells with these steps and this guidance."""

    steps: int
    is_guided: bool
    """Two evaluations of the denoiser a step."""
    ms: float
    """Median over repeats, from caption to pixels, divided by the batch."""
    repeats: int
    """After one that is not counted; long ones are repeated less."""


class Latency(Record):
    """How long pictures take on one device; measured, so no part of what is compared by hash."""

    device: str
    """Its name as the machine says it."""
    dtype: str
    batch: int
    resolution: int
    repeats: int
    """The least of all numbers here."""
    denoiser_ms: float
    """One evaluation of the denoiser, divided by the batch."""
    decoder_ms: float
    text_ms: float
    cells: tuple[CellLatency, ...]

    def of(self, steps: int, guidance: float) -> float | None:
        """Return the milliseconds of a picture; None where it was not measured."""
        same = (c for c in self.cells if (c.steps, c.is_guided) == (steps, guidance > 1))
        return next((cell.ms for cell in same), None)


def read_latency(path: Path) -> Latency:
    """Read the latencies.

    Raises:
        UserError: The file is missing or damaged.
    """
    return read_record(path, Latency, "run `lcm-lora latency`")
