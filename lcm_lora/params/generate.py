"""Which image sets are made."""

from __future__ import annotations

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from lcm_lora.params.section import Section
from lcm_lora.params.values import Seed

Sampler = Literal["teacher", "lcm", "ddim", "dpmpp", "unipc"]

SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
"""Every sampler that is measured: the teacher, the distilled adapter, three classical solvers."""


class Cell(Section):
    """One image set of a sampler: its step count, its guidance, its noise."""

    steps: int = Field(ge=1, le=10_000)
    guidance: float = Field(ge=0, le=100)
    """Imagen convention; above 1 each step costs two network evaluations."""
    seeds: Seed = 0
    """Which set of initial noises; equal sets start picture i from the same noise everywhere."""

    @property
    def nfe(self) -> int:
        """Network evaluations a picture."""
        return self.steps * (2 if self.guidance > 1 else 1)

    @property
    def name(self) -> str:
        """The cell in file names, such as `steps-4_guidance-3` or `steps-50_guidance-3_seeds-1`."""
        seeds = f"_seeds-{self.seeds}" if self.seeds else ""
        return f"steps-{self.steps}_guidance-{self.guidance:g}{seeds}"


class Generate(Section):
    """Image sets of every sampler for the same captions and the same noise."""

    batch: int = Field(64, ge=1, le=65536)
    """Pictures that are made at a time."""
    seed: Seed = 0
    cells: dict[Sampler, Annotated[tuple[Cell, ...], Field(max_length=80)]]
    """No more of one sampler than fit into a parameter of an MLflow run."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = [name for name in SAMPLERS if not self.cells.get(name)]
        if missing:
            raise ValueError(f"cells of {', '.join(missing)} are missing")
        return self
