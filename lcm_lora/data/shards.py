"""Write tars of which the same members give the same bytes, and read samples back from them.

A sample of a shard is three members that share a key: KEY.json, KEY.png and KEY.txt, which any
webdataset reader understands.

Legend: H = W pixels of a side.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lcm_lora import files
from lcm_lora.errors import UserError

Split = Literal["train", "held_out"]

MANIFEST = "manifest.json"

_PNG_EFFORT = 3  # 7 % larger than zlib's default of 6, in half the time.


class Record(TypedDict):
    """What KEY.json holds."""

    original_size: tuple[int, int]
    """Height and width of the source picture."""
    crop_top_left: tuple[int, int]
    """Where the crop starts, top and left, in pixels of the resized picture."""
    sha256: str
    """Of the source's bytes."""
    source: str
    """The picture's name in the source."""


class Shard(TypedDict):
    """One shard of a split, as the manifest lists it."""

    file: str
    samples: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ShardSample:
    """One sample of a shard; `picture` is uint8 [H, W, 3]."""

    key: str
    picture: NDArray[np.uint8]
    caption: str
    record: Record

    def members(self) -> Iterator[tuple[str, bytes]]:
        """Yield the sample as members of a tar, in the order of their names."""
        yield f"{self.key}.json", json.dumps(self.record, sort_keys=True).encode()
        yield f"{self.key}.png", encode_png(self.picture)
        yield f"{self.key}.txt", self.caption.encode()


def encode_png(picture: NDArray[np.uint8]) -> bytes:
    """Return a picture, uint8 [H, W, 3], as PNG."""
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG", compress_level=_PNG_EFFORT)
    return content.getvalue()


def decode_png(content: bytes) -> NDArray[np.uint8]:
    """Return the picture of a PNG as uint8 [H, W, 3]."""
    return np.asarray(Image.open(io.BytesIO(content), formats=("PNG",)).convert("RGB"))


@contextlib.contextmanager
def new_tar(path: Path) -> Iterator[Callable[[str, bytes], None]]:
    """Yield a function that adds (name, content) to a tar, in place when the block ends well.

    Members carry no time, owner or rights of their own: the same calls give the same bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, made = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with (
            os.fdopen(handle, "wb") as file,
            tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar,
        ):

            def add(name: str, content: bytes) -> None:
                # A fresh TarInfo has mtime 0, uid and gid 0, no user or group name, mode 0644.
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))

            yield add
        os.chmod(made, 0o644)
        os.replace(made, path)
    except BaseException:
        Path(made).unlink(missing_ok=True)
        raise


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


def read_manifest(shards: Path) -> dict[str, Any]:
    """Return the manifest of prepared shards.

    Raises:
        UserError: There is none, or it is no JSON.
    """
    path = shards / MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run `lcm-lora prepare`") from None
    except ValueError:
        raise UserError(f"{path}: not valid JSON; run `lcm-lora prepare`") from None
    if not isinstance(manifest, dict) or "shards" not in manifest:
        raise UserError(f"{path}: not a manifest of shards; run `lcm-lora prepare`")
    return manifest


def read_split(shards: Path, split: Split, limit: int | None = None) -> Iterator[ShardSample]:
    """Yield the samples of a split in order, at most `limit` of them.

    Raises:
        UserError: A shard is missing, or is not the one that the manifest describes.
    """
    listed: list[Shard] = read_manifest(shards)["shards"][split]
    samples = itertools.chain.from_iterable(read_shard(shards, shard) for shard in listed)
    yield from itertools.islice(samples, limit)


def read_shard(shards: Path, shard: Shard) -> Iterator[ShardSample]:
    """Yield the samples of one shard that the manifest lists; see `read_split`."""
    path = shards / shard["file"]
    if not path.is_file():
        raise UserError(f"{path}: no such file; run `lcm-lora prepare`")
    # Hashing costs a tenth of decoding, and no edit gets past it.
    if files.sha256(path) != shard["sha256"]:
        raise UserError(f"{path}: not the shard that {MANIFEST} lists; run `lcm-lora prepare`")
    members = ((name.partition("."), content) for name, content in read_tar_members(path))
    for key, group in itertools.groupby(members, key=lambda member: member[0][0]):
        parts = {suffix: content for (_, _, suffix), content in group}
        picture = decode_png(parts["png"])
        yield ShardSample(key, picture, parts["txt"].decode(), json.loads(parts["json"]))
