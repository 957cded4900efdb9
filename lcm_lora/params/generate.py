"""Who paints, how, and which image sets: a subject, a sampler, and cells."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from lcm_lora.params.section import Section
from lcm_lora.params.values import Seed, Text

Sampler = Literal["lcm", "ddim", "dpmpp", "unipc", "euler", "tcd"]

SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
"""Every scheduler that can paint. All space their steps from the end of the noise schedule."""

ADAPTER, CHAMPION, TEACHER, REAL = "adapter", "champion", "teacher", "real"
"""Painters with a role: the new adapter, the registry's champion, and the base with many steps;
and the evaluation set's own pictures, which nobody painted."""

_RESERVED = {ADAPTER, CHAMPION, REAL}
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


def _painter_name(name: str) -> str:
    if name in _RESERVED:
        raise ValueError(f"{name} has a role of its own; take another name")
    if not _NAME.fullmatch(name):
        raise ValueError("is no name of a painter; take small letters, digits and -")
    return name


PainterName = Annotated[str, Field(max_length=40), AfterValidator(_painter_name)]


class Cell(Section):
    """One image set of a painter: its step count, its guidance, its noise."""

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


class Sampling(Section):
    """A sampler, and the image sets that it makes."""

    sampler: Sampler
    eta: float = Field(0.0, ge=0, le=1)
    """Share of fresh noise in each step, of ddim and tcd."""
    cells: Annotated[tuple[Cell, ...], Field(min_length=1, max_length=80)]
    """No more than fit into a parameter of an MLflow run."""


class Painter(Sampling):
    """A subject (a base and weighted adapters), and how it paints."""

    base: Text | None = None
    """Another base than `base.model`, named as that is: a fine-tune."""
    adapters: dict[Text, Annotated[float, Field(ge=-10, le=10)]] = Field(default_factory=dict)
    """Adapters and their weights: LoRA files, folders, hub ids, or `models:/NAME@ALIAS`."""


class Generate(Section):
    """Image sets of every painter for the same captions and the same noise."""

    batch: int = Field(64, ge=1, le=65536)
    """Pictures that are made at a time."""
    seed: Seed = 0
    adapter: Sampling
    """How the new adapter paints, and how the champion paints the same cells with its own."""
    painters: dict[PainterName, Painter]
    """All that can paint without the new adapter: the teacher, and whom it is compared with."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if TEACHER not in self.painters:
            raise ValueError("painters: the teacher is missing; add one")
        return self

    def painter(self, name: str) -> Sampling:
        """Return how a painter paints, by its name; the champion paints as the adapter does."""
        if name in {ADAPTER, CHAMPION}:
            return self.adapter
        return self.painters[name]

    @property
    def names(self) -> list[str]:
        """The names of all painters, in the order of tables."""
        return [*self.painters, ADAPTER, CHAMPION]


def cell_id(painter: str, cell: Cell) -> str:
    """Return the one name of a cell everywhere, such as `adapter/steps-4_guidance-1`."""
    return f"{painter}/{cell.name}"
