"""Turn source pictures into filtered, cropped, captioned shards, and account for every one.

The split hangs on a picture's content alone: appended data moves no sample from one split to the
other, and copies of one picture stay together. Shards fill up in the order of the source, so
appended data leaves every full shard as it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypedDict

import numpy as np
from PIL import Image

from lcm_lora import files
from lcm_lora.data.shards import MANIFEST, Record, Shard, ShardSample, Split, new_tar
from lcm_lora.data.sources import Rejection, Sample, read_source
from lcm_lora.errors import UserError
from lcm_lora.params import Prepare

_EXAMPLES = 5


class Rejected(TypedDict):
    """How many were rejected for one reason, and the first names."""

    count: int
    examples: list[str]


def prepare(params: Prepare, out: Path) -> None:
    """Write the shards of both splits and their manifest to the folder `out`.

    Raises:
        UserError: The source is missing, or no sample is left for one of the splits.
    """
    rejected: dict[str, Rejected] = {}
    with files.new_folder(out) as folder:
        with (
            ShardWriter(folder, "train", params.shard_samples) as train,
            ShardWriter(folder, "held_out", params.shard_samples) as held_out,
        ):
            for found in read_source(params.source, params.resolution):
                if isinstance(found, Sample) and min(found.picture.size) < params.min_side:
                    found = Rejection(found.name, "too small")
                if isinstance(found, Rejection):
                    _note(rejected, found)
                    continue
                split = held_out if is_held_out(found.sha256, params.held_out) else train
                split.add(*crop(found, params.resolution))
        counts = _counts(train.samples, held_out.samples, rejected)
        _check(params, counts, rejected)
        manifest = {
            "resolution": params.resolution,
            "source": params.source.model_dump(mode="json"),
            "counts": counts,
            "rejected": rejected,
            "shards": {"train": train.shards(), "held_out": held_out.shards()},
        }
        files.write_json(folder / MANIFEST, manifest)


def is_held_out(sha256: str, share: float) -> bool:
    """Tell whether a picture of this hash, in hex, belongs to the `share` that is held out."""
    return int(sha256[:16], 16) / 16**16 < share


def crop(sample: Sample, resolution: int) -> tuple[Image.Image, str, Record]:
    """Scale the shorter side to `resolution` and keep the centre.

    Returns:
        The picture, resolution x resolution; its caption; where it comes from.
    """
    width, height = sample.picture.size
    scale = min(width, height) / resolution
    left = (round(width / scale) - resolution) // 2
    top = (round(height / scale) - resolution) // 2
    right = min((left + resolution) * scale, width)
    bottom = min((top + resolution) * scale, height)
    # Lanczos keeps most detail, and Pillow widens its kernel when shrinking, so nothing aliases.
    # Only what is kept is resized; pixels around the box still count at its edges.
    picture = sample.picture.resize(
        (resolution, resolution),
        Image.Resampling.LANCZOS,
        box=(left * scale, top * scale, right, bottom),
    )
    record: Record = {
        "original_size": (height, width),
        "crop_top_left": (top, left),
        "sha256": sample.sha256,
        "source": sample.name,
    }
    return picture, sample.caption, record


class ShardWriter:
    """Fills the shards of one split, one after another."""

    def __init__(self, folder: Path, split: Split, shard_samples: int) -> None:
        """Start the split without a shard; `shard_samples` fill one."""
        self.samples = 0
        self._folder = folder
        self._split = split
        self._shard_samples = shard_samples
        self._current = contextlib.ExitStack()
        self._add: Callable[[str, bytes], None]

    def add(self, picture: Image.Image, caption: str, record: Record) -> None:
        """Append a sample, and begin a new shard if the last is full."""
        if self.samples % self._shard_samples == 0:
            self._current.close()
            name = f"{self.samples // self._shard_samples:05d}.tar"
            self._add = self._current.enter_context(new_tar(self._folder / self._split / name))
        sample = ShardSample(f"{self.samples:08d}", np.asarray(picture), caption, record)
        for name, content in sample.members():
            self._add(name, content)
        self.samples += 1

    def shards(self) -> list[Shard]:
        """Return what the manifest says of the shards, once all are written."""
        return [
            {
                "file": path.relative_to(self._folder).as_posix(),
                "samples": min(self._shard_samples, self.samples - i * self._shard_samples),
                "sha256": files.sha256(path),
            }
            for i, path in enumerate(sorted((self._folder / self._split).glob("*.tar")))
        ]

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the last shard, or remove it if the block failed."""
        self._current.__exit__(kind, error, trace)


def _note(rejected: dict[str, Rejected], rejection: Rejection) -> None:
    entry = rejected.setdefault(rejection.reason, {"count": 0, "examples": []})
    entry["count"] += 1
    if len(entry["examples"]) < _EXAMPLES:
        entry["examples"].append(rejection.name)


def _counts(train: int, held_out: int, rejected: dict[str, Rejected]) -> dict[str, int]:
    lost = sum(entry["count"] for entry in rejected.values())
    read = train + held_out + lost
    return {"read": read, "train": train, "held_out": held_out, "rejected": lost}


def _check(params: Prepare, counts: dict[str, int], rejected: dict[str, Rejected]) -> None:
    empty = [split for split in ("train", "held_out") if not counts[split]]
    if not empty:
        return
    reasons = "".join(
        f", {entry['count']} {reason} ({', '.join(entry['examples'])})"
        for reason, entry in rejected.items()
    )
    kept = f"{counts['train']} train, {counts['held_out']} held out"
    raise UserError(
        f"prepare: no samples left for {' and '.join(empty)}: {counts['read']} read, {kept}"
        f"{reasons}; mend the source, prepare.min_side {params.min_side}"
        f" or prepare.held_out {params.held_out:g}"
    )
