"""The records beside image sets and their features."""

from __future__ import annotations

from pydantic import Field

from lcm_lora.params.generate import Cell, Sampler
from lcm_lora.records import Record


class SetScheduler(Record):
    """The scheduler that painted a set, and the time steps it took."""

    kind: str = Field(alias="class")
    timesteps: tuple[int, ...]


class SetRecord(Record):
    """An image set: who painted it, how, and the SHA-256 of its tar."""

    painter: str
    subject_sha256: str
    """Of the base and the adapters with their weights."""
    sampler: Sampler
    steps: int
    guidance: float
    seeds: int
    nfe: int
    count: int
    scheduler: SetScheduler
    prompts_sha256: str
    height: int
    width: int
    tar_sha256: str

    @property
    def cell(self) -> Cell:
        """Its steps, guidance and noise."""
        return Cell(steps=self.steps, guidance=self.guidance, seeds=self.seeds)


class Painted(Record):
    """What a painter made: the captions, in the order of the pictures, and its cells' names."""

    captions: tuple[str, ...]
    cells: tuple[str, ...]
    """Empty where there is no champion."""


class NetworkRecord(Record):
    """A network that looked at pictures, or a command."""

    name: str
    sha256: str
    preprocessing: str | None = None
    lower_is_better: bool = False
    """Of a plug-in's values."""


class FeatureRecord(Record):
    """The features of an image set: of which, seen by whom, and the SHA-256 of their file.

    The file holds float32 arrays: `features/NETWORK` [N, D], and [N] each `clip`, `attributes`,
    `look` and `both` where looks are judged, and `plugins/NAME`.
    """

    painter: str
    """Or `real`."""
    subject_sha256: str | None
    sampler: Sampler | None
    steps: int
    guidance: float
    seeds: int
    nfe: int
    captions_sha256: str
    images_sha256: str
    """Over decoded pictures, which no PNG encoder's version changes."""
    arrays: dict[str, NetworkRecord]
    """Who saw each array."""
    how_sha256: str = ""
    """Over the code that looked, the libraries and the device."""
    sha256: str
