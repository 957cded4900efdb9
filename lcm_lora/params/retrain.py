"""How the retrain flow runs."""

from __future__ import annotations

from pydantic import Field

from lcm_lora.params.section import Section


class Retrain(Section):
    """How the retrain flow runs."""

    workers: int = Field(1, ge=1, le=1024)
    """Stages that may run side by side on this machine."""
    transfer: bool = False
    """Try the new adapter elsewhere too, each time; else `python -m flows.transfer` does."""
