"""Read captioned pictures from wherever they come, and say why one cannot be used.

Each source is one function from its parameters to samples and rejections in a fixed order, so that
data appended at the end leaves everything before it as it was.

Legend: H x W pixels.
"""

from __future__ import annotations

import hashlib
import io
import json
import posixpath
import tarfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps
from webdataset.tariterators import group_by_keys, tar_file_expander

from lcm_lora.data.shards import has_end
from lcm_lora.errors import UserError
from lcm_lora.params import FolderSource, ShapesSource, Source, WebdatasetSource
from lcm_lora.progress import progress
from lcm_lora.shapes.scenes import draw_scenes, render

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
"""Of pictures; anything else in a source is not looked at."""

Reason = Literal["too small", "not a picture", "no caption", "empty caption", "truncated shard"]

_FORMATS = ("JPEG", "PNG", "WEBP")
_SCENES_AT_ONCE = 512


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


def read_source(source: Source, resolution: int) -> Iterator[Found]:
    """Yield everything in a source, in order, and show how far the reading is.

    Args:
        source: Which source.
        resolution: Pixels of a side, for sources that draw their pictures.

    Raises:
        UserError: The source is missing, holds no pictures, or its captions cannot be read.
    """
    match source:
        case ShapesSource():
            yield from read_shapes(source, resolution)
        case FolderSource():
            yield from read_folder(source.path)
        case WebdatasetSource():
            yield from read_webdataset(source.path)


def read_shapes(source: ShapesSource, resolution: int) -> Iterator[Found]:
    """Yield scenes of the embedded world, drawn at the resolution that is asked for."""
    with progress("prepare", source.count, "pictures") as advance:
        for start in range(0, source.count, _SCENES_AT_ONCE):
            indices = range(start, min(start + _SCENES_AT_ONCE, source.count))
            scenes = draw_scenes(source.seed, indices)
            pictures = render(scenes, resolution)
            for index, scene, picture in zip(indices, scenes, pictures, strict=True):
                digest = hashlib.sha256(picture.tobytes()).hexdigest()
                name = f"scene {source.seed}/{index:08d}"
                yield Sample(name, Image.fromarray(picture), scene.caption, digest)
                advance()


def read_folder(folder: Path) -> Iterator[Found]:
    """Yield the pictures below a folder, sorted by their names relative to it.

    The caption of a/b.png is a/b.txt or a/b.caption; without either, what a metadata.jsonl in its
    folder or one above says about it, the nearest first.
    """
    if not folder.is_dir():
        raise UserError(f"prepare.source.path {folder}: no such folder; name one with pictures")
    listed = _read_metadata(folder)
    stored = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file()
    }
    names = sorted(stored | listed.keys())
    if not names:
        kinds = ", ".join(SUFFIXES)
        raise UserError(f"prepare.source.path {folder}: no pictures ({kinds}); name another folder")
    with progress("prepare", len(names), "pictures") as advance:
        for name in names:
            path = folder / name
            beside = [path.with_suffix(suffix) for suffix in (".txt", ".caption")]
            stated = next((_text(file.read_bytes()) for file in beside if file.is_file()), None)
            # A listed picture that is not there counts as one that cannot be opened.
            content = path.read_bytes() if path.is_file() else b""
            yield _found(name, content, listed.get(name) if stated is None else stated)
            advance()


def read_webdataset(path: Path) -> Iterator[Found]:
    """Yield the samples of a tar, or of a folder's tars sorted by name.

    Nothing is shuffled, split between workers or unpickled.
    """
    tars = [path] if path.is_file() else sorted(path.rglob("*.tar"))
    if not tars:
        problem = "no tars in this folder" if path.is_dir() else "no such file or folder"
        raise UserError(f"prepare.source.path {path}: {problem}; name a tar or a folder of tars")
    with progress("prepare", len(tars), "shards") as advance:
        for tar in tars:
            name = tar.name if tar == path else tar.relative_to(path).as_posix()
            for count, found in enumerate(_read_tar(tar, name), 1):
                yield found
                advance(0, note=f"{name}: {count} samples")
            advance()


def _read_tar(tar: Path, name: str) -> Iterator[Found]:
    is_whole = True

    def stop(error: Exception) -> bool:
        """Let webdataset end a broken tar after the last whole member."""
        nonlocal is_whole
        if not isinstance(error, tarfile.TarError):
            raise error
        is_whole = False
        return False

    with tar.open("rb") as stream:
        # webdataset's own grouping understands the mark that its reader sets after each shard.
        members = tar_file_expander([{"url": name, "stream": stream}], handler=stop)
        try:
            for sample in group_by_keys(members):
                suffix = next((suffix for suffix in SUFFIXES if suffix[1:] in sample), None)
                content = sample[suffix[1:]] if suffix else b""
                yield _found(f"{name}/{sample['__key__']}", content, _tar_caption(sample))
        except ValueError as error:
            raise UserError(f"{tar}: {error.args[0]}; write this shard anew") from None
    if not is_whole or (tar.suffix == ".tar" and not has_end(tar)):
        yield Rejection(_printable(name), "truncated shard")


def _found(name: str, content: bytes, caption: str | None) -> Found:
    picture = decode(content)
    name = _printable(name)
    if picture is None:
        return Rejection(name, "not a picture")
    if caption is None:
        return Rejection(name, "no caption")
    if not caption.strip():
        return Rejection(name, "empty caption")
    return Sample(name, picture, caption.strip(), hashlib.sha256(content).hexdigest())


def _printable(name: str) -> str:
    """Return a name as valid text; on disk and in a tar it need not be."""
    return name.encode(errors="backslashreplace").decode()


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
        return _text(sample["txt"])
    try:
        record = json.loads(sample.get("json", b"null"))
    except ValueError:
        return None
    return _value(record.get("caption")) if isinstance(record, dict) else None


def _text(content: bytes) -> str | None:
    """Return UTF-8 text without its byte order mark; text in another encoding is no caption."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def _value(caption: Any) -> str | None:
    """Return a caption from JSON; what is no string, or holds half a character, is no caption."""
    if not isinstance(caption, str):
        return None
    return _text(caption.encode(errors="surrogatepass"))


def _read_metadata(folder: Path) -> dict[str, str | None]:
    """Return the caption of every picture that a metadata.jsonl lists, by its name in `folder`."""
    captions: dict[str, str | None] = {}
    # Outer folders come first, so that the nearest file has the last word.
    for path in sorted(folder.rglob("metadata.jsonl"), key=lambda path: (len(path.parts), path)):
        inner = path.parent.relative_to(folder)
        for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                name = posixpath.normpath((inner / row["file_name"]).as_posix())
            except (ValueError, KeyError, TypeError):
                wanted = '{"file_name": ..., "text": ...}'
                raise UserError(f"{path}:{number}: not {wanted}; mend or remove the line") from None
            captions[name] = _value(row.get("text"))
    return captions
