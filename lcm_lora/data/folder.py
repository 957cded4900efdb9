"""The pictures of a folder with their captions, in runs that new pictures leave alone."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lcm_lora.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
"""Of pictures; anything else in a source is not looked at."""

Problem = Literal["outside the source"]

_RUN, _LONGEST = 512, 2048
"""Pictures of a run, on average and at most."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A picture that a folder holds or lists."""

    name: str
    """Relative to the folder."""
    picture: Path | None
    """None for a picture that is listed and not there."""
    caption_file: Path | None
    """The text file beside it."""
    caption: str | None
    """What a metadata.jsonl says, where there is no text file."""
    problem: Problem | None = None


def runs(folder: Path) -> Iterator[list[Entry]]:
    """Yield the pictures below a folder, sorted by their names relative to it, in runs.

    The caption of a/b.png is a/b.txt or a/b.caption; without either, what a metadata.jsonl in its
    folder or one above says about it, the nearest first. A run ends behind a picture whose name
    says so, by its hash; so what is added or removed changes one run, and no border of others.

    Raises:
        UserError: There is no such folder, it holds no pictures, or a metadata.jsonl is damaged.
    """
    run: list[Entry] = []
    for entry in _entries(folder):
        run.append(entry)
        if _ends_run(entry.name) or len(run) == _LONGEST:
            yield run
            run = []
    if run:
        yield run


def _ends_run(name: str) -> bool:
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:4], "big") % _RUN == 0


def _entries(folder: Path) -> Iterator[Entry]:
    if not folder.is_dir():
        raise UserError(f"prepare.source.path {folder}: no such folder; name one with pictures")
    stored, outside = _walk(folder)
    captions = _read_metadata(folder, [name for name in stored if _is_metadata(name)])
    pictures = {name for name in stored if name.lower().endswith(SUFFIXES)}
    names = sorted(pictures | outside | captions.keys())
    if not names:
        kinds = ", ".join(SUFFIXES)
        raise UserError(f"prepare.source.path {folder}: no pictures ({kinds}); name another folder")
    for name in names:
        if name in outside or name.startswith(("../", "/")):
            yield Entry(name, None, None, None, "outside the source")
            continue
        stem = name.rpartition(".")[0]
        beside = next((f"{stem}{s}" for s in (".txt", ".caption") if f"{stem}{s}" in stored), None)
        yield Entry(
            name,
            folder / name if name in stored else None,
            folder / beside if beside else None,
            None if beside else captions.get(name),
        )


def _is_metadata(name: str) -> bool:
    return posixpath.basename(name) == "metadata.jsonl"


def _walk(folder: Path) -> tuple[set[str], set[str]]:
    """Return the names of all files below a folder, and of links that lead out of it."""
    inside = os.path.realpath(folder)
    stored: set[str] = set()
    outside: set[str] = set()
    pending = [""]
    while pending:
        where = pending.pop()
        with os.scandir(folder / where) as found:
            for entry in found:
                name = posixpath.join(where, entry.name)
                if entry.is_symlink() and not _is_inside(entry.path, inside):
                    if entry.is_dir() or name.lower().endswith(SUFFIXES):
                        outside.add(name)
                elif entry.is_dir(follow_symlinks=False):
                    pending.append(name)
                elif entry.is_file():
                    stored.add(name)
    return stored, outside


def _is_inside(path: str, folder: str) -> bool:
    return os.path.realpath(path).startswith(folder + os.sep)


def _read_metadata(folder: Path, names: list[str]) -> dict[str, str | None]:
    """Return the caption of every picture that a metadata.jsonl lists, by its name in `folder`."""
    captions: dict[str, str | None] = {}
    # Outer folders come first, so that the nearest file has the last word.
    for name in sorted(names, key=lambda name: (name.count("/"), name)):
        inner = posixpath.dirname(name)
        for number, line in enumerate((folder / name).read_bytes().split(b"\n"), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                listed = posixpath.normpath(posixpath.join(inner, row["file_name"]))
            except (ValueError, KeyError, TypeError, RecursionError):
                wanted = '{"file_name": ..., "text": ...}'
                where = f"{folder / name}:{number}"
                raise UserError(f"{where}: not {wanted}; mend or remove the line") from None
            captions[listed] = caption_value(row.get("text"))
    return captions


def printable(name: str) -> str:
    """Return a name as valid text; on disk and in a tar it need not be."""
    return name.encode(errors="backslashreplace").decode()


def caption_value(caption: Any) -> str | None:
    """Return a caption from JSON; what is no string, or holds half a character, is no caption."""
    if not isinstance(caption, str):
        return None
    return caption_text(caption.encode(errors="surrogatepass"))


def caption_text(content: bytes) -> str | None:
    """Return UTF-8 text without its byte order mark; text in another encoding is no caption."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
