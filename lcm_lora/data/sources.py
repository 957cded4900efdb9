"""Read captioned pictures from wherever they come, and say why one cannot be used.

Reading yields bytes, in a fixed order; decoding is a function of one picture, for any thread.

Legend: H x W pixels.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import tarfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lcm_lora.data.folder import (
    SUFFIXES,
    Entry,
    Problem,
    caption_text,
    caption_value,
    printable,
    runs,
)
from lcm_lora.data.shards import has_end
from lcm_lora.data.units import Unit, run_sha256, scenes_of, tars
from lcm_lora.errors import UserError
from lcm_lora.hashes import Hashes
from lcm_lora.params.sources import FolderSource, ShapesSource, Source, WebdatasetSource
from lcm_lora.shapes.scenes import draw_scenes, render

Reason = (
    Literal["too small", "not a picture", "no caption", "empty caption", "truncated shard"]
    | Problem
)

_FORMATS = ("JPEG", "PNG", "WEBP")


@dataclass(frozen=True, slots=True)
class Raw:
    """Something in a source, as it was found."""

    name: str
    content: bytes | NDArray[np.uint8]
    """Of a file; or a picture that was drawn rather than read, [H, W, 3]."""
    caption: str | None
    problem: Reason | None = None
    """Why it can be no sample, where that is known without decoding it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture, decoded, upright and RGB, with a caption that says something."""

    name: str
    picture: Image.Image
    caption: str
    sha256: str
    """Of the source's bytes; of the pixels where a picture was drawn rather than read."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Something in the source that is no sample, and why."""

    name: str
    reason: Reason


Found = Sample | Rejection
Asked = Callable[[str], bool]
"""Whether what has this printable name is asked for."""
Reader = Callable[[Asked], Iterator[Raw]]
"""Reads what is asked for of a unit, in order."""


def everything(name: str) -> bool:
    """Ask for all that a unit holds."""
    return True


def open_units(
    source: Source, units: Sequence[Unit], resolution: int, hashes: Hashes
) -> Iterator[tuple[Unit, Reader]]:
    """Yield each unit with the function that reads it.

    Args:
        source: Which source.
        units: What the first look found in it, in order.
        resolution: Pixels of a side, for sources that draw their pictures.
        hashes: What is known of its files.

    Raises:
        UserError: From here or from a reader: what is there is not what the first look found.
    """
    match source:
        case ShapesSource():
            for unit in units:
                yield unit, _reader(_read_scenes, source.seed, unit, resolution)
        case FolderSource():
            found = runs(source.path)
            for unit in units:
                entries = next(found, [])
                if not entries or printable(entries[0].name) != unit.name:
                    raise _changed(str(source.path / unit.name))
                yield unit, _reader(_read_run, source.path, entries, unit, hashes)
        case WebdatasetSource():
            places = {printable(name): tar for name, tar in tars(source.path)}
            for unit in units:
                if unit.name not in places:
                    raise _changed(str(source.path / unit.name))
                yield unit, _reader(_read_tar, places[unit.name], unit, hashes)


def _reader(read: Callable[..., Iterator[Raw]], *arguments: Any) -> Reader:
    return functools.partial(read, *arguments)


def _changed(place: str) -> UserError:
    return UserError(
        f"{place}: not what the first look found there; it changed or vanished since: "
        "bring it to rest, and run again from `lcm-lora inventory`"
    )


def _read_scenes(seed: int, unit: Unit, resolution: int, is_asked: Asked) -> Iterator[Raw]:
    names = {index: f"scene {seed}/{index:08d}" for index in scenes_of(unit)}
    indices = [index for index, name in names.items() if is_asked(name)]
    scenes = draw_scenes(seed, indices)
    pictures = render(scenes, resolution)
    for index, scene, picture in zip(indices, scenes, pictures, strict=True):
        yield Raw(names[index], picture, scene.caption)


def _read_run(
    folder: Path, entries: list[Entry], unit: Unit, hashes: Hashes, is_asked: Asked
) -> Iterator[Raw]:
    def check() -> None:
        try:
            found = run_sha256(entries, hashes)
        except FileNotFoundError as error:
            raise _changed(str(error.filename)) from None
        if found != unit.sha256:
            raise _changed(f"{folder / unit.name} and the pictures that follow")

    check()
    for entry in entries:
        if not is_asked(printable(entry.name)):
            continue
        try:
            # A listed picture that is not there counts as one that cannot be opened.
            content = entry.picture.read_bytes() if entry.picture else b""
            text = entry.caption_file.read_bytes() if entry.caption_file else None
        except FileNotFoundError as error:
            raise _changed(str(error.filename)) from None
        caption = entry.caption if text is None else caption_text(text)
        yield Raw(entry.name, content, caption, entry.problem)
    check()


def _read_tar(tar: Path, unit: Unit, hashes: Hashes, is_asked: Asked) -> Iterator[Raw]:
    """Yield the samples of a tar; nothing is shuffled, split between workers or unpickled."""
    # It imports torch: seconds that only who reads tars should wait.
    from webdataset.tariterators import group_by_keys, tar_file_expander

    is_whole = True

    def stop(error: Exception) -> bool:
        """Let webdataset end a broken tar after the last whole member."""
        nonlocal is_whole
        if not isinstance(error, tarfile.TarError):
            raise error
        is_whole = False
        return False

    def check() -> None:
        try:
            found = hashes.sha256(tar)
        except FileNotFoundError:
            raise _changed(str(tar)) from None
        if found != unit.sha256:
            raise _changed(str(tar))

    check()
    with tar.open("rb") as stream:
        # webdataset's own grouping understands the mark that its reader sets after each shard.
        members = tar_file_expander([{"url": tar.name, "stream": stream}], handler=stop)
        try:
            for sample in group_by_keys(members):
                if not is_asked(printable(sample["__key__"])):
                    continue
                suffix = next((suffix for suffix in SUFFIXES if suffix[1:] in sample), None)
                content = sample[suffix[1:]] if suffix else b""
                yield Raw(sample["__key__"], content, _tar_caption(sample))
        except ValueError as error:
            raise UserError(f"{tar}: {error.args[0]}; write this shard anew") from None
    check()
    if not is_whole or (tar.suffix == ".tar" and not has_end(tar)):
        yield Raw("", b"", None, "truncated shard")


def judge(raw: Raw) -> Found:
    """Decode what was found, or say why it is no sample."""
    name = printable(raw.name)
    if raw.problem:
        return Rejection(name, raw.problem)
    content = raw.content
    picture = decode(content) if isinstance(content, bytes) else Image.fromarray(content)
    if picture is None:
        return Rejection(name, "not a picture")
    problem = caption_problem(raw)
    if problem or raw.caption is None:
        return Rejection(name, problem or "no caption")
    return Sample(name, picture, raw.caption.strip(), content_sha256(raw))


def caption_problem(raw: Raw) -> Reason | None:
    """Return why a caption is none, if it is none."""
    if raw.caption is None:
        return "no caption"
    return None if raw.caption.strip() else "empty caption"


def content_sha256(raw: Raw) -> str:
    """Return the SHA-256 of what was found: of a file's bytes, or of a drawn picture's pixels."""
    content = raw.content
    return hashlib.sha256(content if isinstance(content, bytes) else content.tobytes()).hexdigest()


def decode(content: bytes) -> Image.Image | None:
    """Return a picture upright, on white where it is transparent, as RGB; None if it is none."""
    with warnings.catch_warnings():
        # One odd tag among a million pictures is no news, but a decompression bomb is no picture.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            picture = Image.open(io.BytesIO(content), formats=_FORMATS)
            return _flat(ImageOps.exif_transpose(picture))
        except Exception:  # Decoders of hostile bytes raise whatever they please.
            return None


def _flat(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):
        # Pillow would clip 16 bits to 8 and so turn nearly all of the picture white.
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return picture.convert("RGB")


def _tar_caption(sample: dict[str, Any]) -> str | None:
    if "txt" in sample:
        return caption_text(sample["txt"])
    try:
        record = json.loads(sample.get("json", b"null"))
    except (ValueError, RecursionError):
        return None
    return caption_value(record.get("caption")) if isinstance(record, dict) else None
