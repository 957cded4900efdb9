"""The records beside image sets and their features."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lcm_lora.params.generate import Sampler
from lcm_lora.records import Record


class SetScheduler(Record):
    """The scheduler that painted a set, and the time steps it took."""

    kind: str = Field(alias="class")
    timesteps: tuple[int, ...]


class SetRecord(Record):
    """An image set: who painted it, how, and the SHA-256 of its tar."""

    sampler: Sampler
    steps: int
    guidance: float
    nfe: int
    seeds: int
    count: int
    scheduler: SetScheduler
    prompts_sha256: str
    height: int
    width: int
    tar_sha256: str


class Captions(Record):
    """The captions of image sets, in the order of the pictures."""

    captions: tuple[str, ...]


class SetLatency(Record):
    """How long a picture of a set took."""

    ms_per_image: float
    device: str
    batch: int


class Latency(Record):
    """The latencies of image sets, by their names."""

    sets: dict[str, SetLatency]


class NetworkRecord(Record):
    """A network that looked at pictures."""

    name: str
    sha256: str
    preprocessing: str | None = None


class FeatureRecord(Record):
    """The features of an image set: of which, seen by whom, and the SHA-256 of their file."""

    sampler: Sampler | Literal["real"]
    steps: int
    guidance: float
    nfe: int
    seeds: int
    ms_per_image: float | None
    captions_sha256: str
    images_sha256: str
    network: NetworkRecord
    clip: NetworkRecord
    sha256: str
