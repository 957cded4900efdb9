"""Read image sets back: those that a sampler painted, or the real ones of the evaluation set.

Legend: H x W pixels of a picture.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from lcm_lora.data.picture_sets import EVALUATION, read_set
from lcm_lora.data.shards import read_tar_members
from lcm_lora.errors import UserError
from lcm_lora.evaluation.set_records import Captions, Latency, SetRecord
from lcm_lora.records import check_file, read_record

CAPTIONS, LATENCY = "captions.json", "latency.json"


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Pictures and captions: `name` is that of their file of features."""

    name: str
    sampler: str
    """Who painted them; `real` for none."""
    steps: int
    guidance: float
    nfe: int
    seeds: int
    ms_per_image: float | None
    captions: tuple[str, ...]
    tar: Path
    tar_sha256: str
    mend: str
    """The command that makes the set anew."""

    def pngs(self) -> Iterator[bytes]:
        """Yield the pictures in the order of the captions, as PNG.

        Raises:
            UserError: The tar is missing, damaged or of another set.
        """
        check_file(self.tar, self.tar_sha256, f"run `{self.mend}`")
        found = 0
        for _, content in read_tar_members(self.tar, self.mend):
            found += 1
            yield content
        if found != len(self.captions):
            raise UserError(
                f"{self.tar}: holds {found} pictures for {len(self.captions)} captions; "
                f"run `{self.mend}`"
            )


def generated_sets(folder: Path, sampler: str) -> list[ImageSet]:
    """Return the image sets that `generate` wrote into `folder`, in the order of their names.

    Raises:
        UserError: There are none, or a file of theirs is missing, damaged or of other sets.
    """
    command = f"lcm-lora generate {sampler}"
    mend = f"run `{command}`"
    captions = read_record(folder / CAPTIONS, Captions, mend).captions
    latency = read_record(folder / LATENCY, Latency, mend).sets
    if unlisted := {tar.stem for tar in folder.glob("*.tar")} - latency.keys():
        raise UserError(f"{folder / LATENCY}: does not list {min(unlisted)}; {mend}")
    if not latency:
        raise UserError(f"{folder}: holds no image sets; {mend}")
    sets = []
    for name, time in sorted(latency.items()):
        about = folder / f"{name}.json"
        record = read_record(about, SetRecord, mend)
        if record.sampler != sampler:
            raise UserError(f"{about}: is of {record.sampler}, not of {sampler}; {mend}")
        if record.prompts_sha256 != captions_sha256(captions):
            raise UserError(f"{about}: is of other captions than {CAPTIONS} holds; {mend}")
        how = (record.steps, record.guidance, record.nfe, record.seeds, time.ms_per_image)
        tar = about.with_suffix(".tar")
        sets.append(ImageSet(name, sampler, *how, captions, tar, record.tar_sha256, command))
    return sets


def real_sets(evaluation: Path) -> list[ImageSet]:
    """Return the two sets of the evaluation set, `real` and `reference`.

    Raises:
        UserError: One is missing or damaged.
    """
    return [real_set(evaluation, name) for name in EVALUATION]


def real_set(folder: Path, name: str) -> ImageSet:
    """Return the set NAME of real pictures in `folder`.

    Raises:
        UserError: It is missing or damaged.
    """
    record = read_set(folder, name)
    place = (record.captions, folder / f"{name}.tar", record.tar_sha256)
    return ImageSet(name, "real", 0, 0.0, 0, 0, None, *place, "lcm-lora prepare")


def read_pictures(tar: Path, indices: list[int]) -> list[Image.Image]:
    """Return the pictures at `indices` of an image set's tar, RGB, in the order of `indices`.

    Raises:
        UserError: The tar or its record is missing or damaged, or holds fewer pictures.
    """
    command = f"lcm-lora generate {tar.parent.name}"
    record = read_record(tar.with_suffix(".json"), SetRecord, f"run `{command}`")
    check_file(tar, record.tar_sha256, f"run `{command}`")
    wanted = set(indices)
    found = {
        index: Image.open(io.BytesIO(content), formats=("PNG",)).convert("RGB")
        for index, (_, content) in enumerate(read_tar_members(tar, command))
        if index in wanted
    }
    if missing := wanted - found.keys():
        raise UserError(f"{tar}: holds no picture {min(missing)}; run `{command}`")
    return [found[index] for index in indices]


def captions_of(folder: Path) -> tuple[str, ...]:
    """Return the captions of a sampler's image sets, in the order of the pictures."""
    mend = f"run `lcm-lora generate {folder.name}`"
    return read_record(folder / CAPTIONS, Captions, mend).captions


def captions_sha256(captions: tuple[str, ...]) -> str:
    """Return a SHA-256 over captions and their order."""
    return hashlib.sha256(json.dumps(captions).encode()).hexdigest()
