"""Sets of real pictures with captions, as metrics see them: lossless, in an order that stays.

A set is NAME.json and NAME.tar, and a function of its samples alone: as long as they are the first
of their split, data may grow without changing a byte.
"""

from __future__ import annotations

from pathlib import Path

from lcm_lora.records import Record, read_record

EVALUATION = ("real", "reference")
"""The two halves of the evaluation set: pictures of the captions that are painted, and others that
samplers are compared with. Against the pictures of their own captions, a distance would count each
prompt's likeness twice and come out too low."""

SELECTION = ("selection",)

_MEND = "run `lcm-lora prepare`"


class PictureSet(Record):
    """A set of real pictures: their captions, in order, and the SHA-256 of their tar."""

    resolution: int
    captions: tuple[str, ...]
    sources: tuple[str, ...]
    """SHA-256 of the source's bytes, a picture each."""
    tar_sha256: str


def read_set(folder: Path, name: str) -> PictureSet:
    """Return what the set NAME in `folder` holds.

    Raises:
        UserError: It is missing or damaged.
    """
    return read_record(folder / f"{name}.json", PictureSet, _MEND)
