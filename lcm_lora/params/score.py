"""What is measured."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from lcm_lora.params.section import Section
from lcm_lora.params.values import Seed, Text

_NAME = re.compile(r"[a-z][a-z0-9]*")

ATTRIBUTES = "attributes"
"""That a picture shows what its caption says."""

Look = Literal["ink", "dusk"]
"""Of the shapes world: a ruled margin down the left, and a line of light low across the ground."""

Looks = tuple[Look, ...] | None
"""Which looks pictures should have, and no others; None judges none, but plain scenes' content."""

Colour = Annotated[tuple[float, float, float], Field(min_length=3, max_length=3)]


def _plain_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("is no name for metrics; take small letters and digits, such as dinov2")
    return name


Name = Annotated[str, Field(max_length=30), AfterValidator(_plain_name)]


class Network(Section):
    """A network that turns pictures into features: a local file or folder, checked by hash."""

    kind: Literal["shapes", "inception", "torchscript", "export", "clip", "dinov2"]
    """`shapes` is the shapes world's own; `inception` the 2015 TorchScript file, the only one whose
    distances are called FID and KID; `torchscript` and `export` (.pt2) are any file that takes
    float [B, 3, S, S] and gives [B, D]; `clip` and `dinov2` are transformers folders."""
    path: Text | None = None
    """Null for `shapes` alone."""
    pixels: int | None = Field(None, ge=8, le=4096)
    """S, of `torchscript` and `export`; folders say it themselves."""
    mean: Colour = (0.0, 0.0, 0.0)
    """Taken from colours in 0..1 before `torchscript` and `export`."""
    std: Colour = (1.0, 1.0, 1.0)
    """Colours are divided by it afterwards."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.path is None) != (self.kind == "shapes"):
            raise ValueError("path: name a file or folder, of every kind but shapes")
        if (self.pixels is None) != (self.kind not in {"torchscript", "export"}):
            raise ValueError("pixels: say the side that the network takes, of files alone")
        return self


class Plugin(Section):
    """A metric from a command of its own environment, one value a picture.

    It is called with two paths at its end: a folder of PNGs with `prompts.jsonl`, and the
    `metrics.json` to write.
    """

    command: Annotated[tuple[Text, ...], Field(min_length=1, max_length=50)]
    lower_is_better: bool = False
    seconds: float = Field(3600, gt=0, le=1e6)
    """After so long it is ended."""


class Score(Section):
    """What is measured on every image set, and how sure it must be."""

    networks: Annotated[dict[Name, Network], Field(min_length=1, max_length=8)]
    """Of the distances, by the name that their metrics carry: `fd_dinov2`. The first gives the
    headline."""
    clip: Text = "shapes"
    """CLIP of the CLIP score: `shapes`, or a transformers CLIP folder."""
    attributes: bool = True
    """Judge shapes, colours and ground; for the shapes world only."""
    plugins: Annotated[dict[Name, Plugin], Field(max_length=16)] = Field(default_factory=dict)
    level: float = Field(0.95, ge=0.5, le=0.9999)
    """Of every interval."""
    seed: Seed = 0
    """Of what is simulated to estimate biases."""


def judged(score: Score, looks: Looks) -> tuple[str, ...]:
    """Return what a judge says of each picture: its content; with looks also them, and both."""
    if looks is not None:
        return (ATTRIBUTES, "look", "both")
    return (ATTRIBUTES,) if score.attributes else ()
