"""Write tars of which the same members give the same bytes, and read samples back from them.

A sample of a shard is three members that share a key: KEY.webp or KEY.png, KEY.json and KEY.txt,
which any webdataset reader understands.

Legend: H = W pixels of a side.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import json
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lcm_lora import files
from lcm_lora.data.pictures import pixels, suffix_of
from lcm_lora.data.shard import INDEX, Shard
from lcm_lora.errors import UserError
from lcm_lora.records import Record, parse_record

_MEND = "run `lcm-lora prepare`"


class SampleRecord(Record):
    """Where a sample comes from."""

    original_size: tuple[int, int]
    """Height and width of the source picture."""
    crop_top_left: tuple[int, int]
    """Where the crop starts, top and left, in pixels of the resized picture."""
    sha256: str
    """Of the source's bytes."""
    source: str
    """The picture's name in its unit of the source."""


@dataclass(frozen=True, slots=True)
class ShardSample:
    """One sample of a shard; `content` is its picture as PNG or WebP."""

    key: str
    content: bytes
    caption: str
    record: SampleRecord

    @property
    def picture(self) -> NDArray[np.uint8]:
        """The picture, decoded, uint8 [H, W, 3]."""
        return pixels(self.content)

    def keyed(self, key: str) -> Self:
        """Return the sample under another key."""
        return dataclasses.replace(self, key=key)

    def members(self) -> Iterator[tuple[str, bytes]]:
        """Yield the sample as members of a tar."""
        yield f"{self.key}.{suffix_of(self.content)}", self.content
        yield f"{self.key}.json", json.dumps(self.record.model_dump(), sort_keys=True).encode()
        yield f"{self.key}.txt", self.caption.encode()


@dataclass(frozen=True, slots=True)
class Written:
    """A shard, and where in it the picture of each sample is: first byte and length."""

    shard: Shard
    spans: list[tuple[ShardSample, int, int]]


def write_shard(
    folder: Path, number: int, samples: Iterator[ShardSample], most: int
) -> Written | None:
    """Write the next samples, at most so many, into a shard of `folder`; None if none are left."""
    first = next(samples, None)
    if first is None:
        return None
    path, spans = folder / f"{number:05d}.tar", []
    with new_tar(path) as add:
        for sample in itertools.chain([first], itertools.islice(samples, most - 1)):
            (picture, content), *others = sample.members()
            start = add(picture, content)
            spans.append((dataclasses.replace(sample, content=b""), start, len(content)))
            for name, content in others:
                add(name, content)
    return Written(Shard(file=path.name, samples=len(spans), sha256=files.sha256(path)), spans)


@contextlib.contextmanager
def new_tar(path: Path) -> Iterator[Callable[[str, bytes], int]]:
    """Yield a function that adds (name, content) to a tar, in place when the block ends well.

    The function returns where in the tar the content starts.

    Members carry no time, owner or rights of their own: the same calls give the same bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, made = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with (
            files.named(path),
            os.fdopen(handle, "wb") as file,
            tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar,
        ):

            def add(name: str, content: bytes) -> int:
                # A fresh TarInfo has mtime 0, uid and gid 0, no user or group name, mode 0644.
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
                return tar.offset - _padded(len(content))

            yield add
        os.chmod(made, 0o644)
        os.replace(made, path)
    except BaseException:
        Path(made).unlink(missing_ok=True)
        raise


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Write a deterministic tar of (name, content), in one step and in the order given."""
    with new_tar(path) as add:
        for name, content in members:
            add(name, content)


def read_tar_members(path: Path, mend: str = "lcm-lora prepare") -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of every file in a tar, in order.

    Raises:
        UserError: The tar is missing or broken; `mend` is the command that writes it anew.
    """
    try:
        with tarfile.open(path, mode="r:") as tar:
            for member in tar:
                file = tar.extractfile(member)
                if file is not None:
                    yield member.name, file.read()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run `{mend}`") from None
    except tarfile.TarError as error:
        raise UserError(f"{path}: broken tar ({error}); run `{mend}`") from None
    if not has_end(path):
        raise UserError(f"{path}: truncated tar; run `{mend}`")


def has_end(tar: Path) -> bool:
    """Tell whether a tar ends with the block of zeros that marks its end.

    Python's reader takes a tar that was cut between two members for a whole one.
    """
    with tar.open("rb") as file:
        file.seek(max(0, tar.stat().st_size - tarfile.BLOCKSIZE))
        return file.read() == tarfile.NUL * tarfile.BLOCKSIZE


def read_shard(shards: Path, shard: Shard) -> Iterator[ShardSample]:
    """Yield the samples of one shard that the index lists.

    Raises:
        UserError: It is missing, or is not the one that the index describes.
    """
    path = shards / shard.file
    if not path.is_file():
        raise UserError(f"{path}: no such file; {_MEND}")
    # Hashing costs a tenth of decoding, and no edit gets past it.
    if files.sha256(path) != shard.sha256:
        raise UserError(f"{path}: not the shard that {INDEX} lists; {_MEND}")
    members = ((name.partition("."), content) for name, content in read_tar_members(path))
    for key, group in itertools.groupby(members, key=lambda member: member[0][0]):
        parts = {suffix: content for (_, _, suffix), content in group}
        content = parts["webp"] if "webp" in parts else parts["png"]
        record = parse_record(parts["json"], SampleRecord, f"{path}/{key}.json", _MEND)
        yield ShardSample(key, content, parts["txt"].decode(), record)
