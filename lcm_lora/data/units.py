"""What a source holds, without decoding any of it: its units, each with a hash of its content.

A unit is what is read, kept and counted as one: a tar; a run of pictures of a folder; a run of
scenes. Adding, changing or removing a picture changes one unit and leaves all others as they were.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from lcm_lora.data.folder import SUFFIXES, Entry, printable, runs
from lcm_lora.errors import UserError
from lcm_lora.hashes import Hashes
from lcm_lora.params.sources import FolderSource, ShapesSource, Source, WebdatasetSource
from lcm_lora.records import Record

_SCENES = 1024


class Unit(Record):
    """A part of a source: `sha256` of all that decides what is read from it."""

    name: str
    """Of the tar, or of the first picture, relative to the source."""
    sha256: str
    pictures: int
    """How many there are, good or not."""


class SourceInventory(Record):
    """The units of a source, in the order of their names."""

    kind: str
    units: tuple[Unit, ...]

    @property
    def pictures(self) -> int:
        """How many pictures there are, good or not."""
        return sum(unit.pictures for unit in self.units)


def list_units(source: Source, hashes: Hashes, known: Mapping[str, int]) -> Iterator[Unit]:
    """Yield the units of a source in the order of their names.

    Args:
        source: Which source.
        hashes: What is known of its files.
        known: Pictures of units by their hash, to spare counting them again.

    Raises:
        UserError: The source is missing, holds nothing, leads out of itself, or changes meanwhile.
    """
    match source:
        case ShapesSource():
            yield from _scenes(source)
        case FolderSource():
            for entries in runs(source.path):
                yield Unit(
                    name=printable(entries[0].name),
                    sha256=run_sha256(entries, hashes),
                    pictures=len(entries),
                )
        case WebdatasetSource():
            for name, tar in tars(source.path):
                digest = hashes.sha256(tar)
                pictures = known[digest] if digest in known else _count(tar)
                yield Unit(name=printable(name), sha256=digest, pictures=pictures)


def tars(path: Path) -> list[tuple[str, Path]]:
    """Return name and place of a tar, or of all tars in a folder, sorted by name."""
    if path.is_file():
        return [(path.name, path)]
    found = sorted((tar.relative_to(path).as_posix(), tar) for tar in path.rglob("*.tar"))
    if not found:
        problem = "no tars in this folder" if path.is_dir() else "no such file or folder"
        raise UserError(f"prepare.source.path {path}: {problem}; name a tar or a folder of tars")
    inside = path.resolve()
    for _, tar in found:
        if not tar.resolve().is_relative_to(inside):
            raise UserError(f"{tar}: a link that leads out of {path}; put the tar itself there")
    return found


def scenes_of(unit: Unit) -> range:
    """Return the indices of the scenes of a unit of the shapes world."""
    first, last = unit.name.removeprefix("scenes ").split("-")
    return range(int(first), int(last) + 1)


def run_sha256(entries: list[Entry], hashes: Hashes) -> str:
    """Return a hash of the names, pictures and captions of a run of a folder's pictures."""
    digest = hashlib.sha256()
    for entry in entries:
        parts = [entry.name, entry.problem or ""]
        parts.append(hashes.sha256(entry.picture) if entry.picture else "")
        parts.append(hashes.sha256(entry.caption_file) if entry.caption_file else "")
        parts.append("" if entry.caption is None else f"={entry.caption}")
        for part in parts:
            digest.update(hashlib.sha256(part.encode(errors="surrogatepass")).digest())
    return digest.hexdigest()


def _scenes(source: ShapesSource) -> Iterator[Unit]:
    for first in range(0, source.count, _SCENES):
        last = min(first + _SCENES, source.count) - 1
        name = f"scenes {first:08d}-{last:08d}"
        digest = hashlib.sha256(f"{source.seed} {name}".encode()).hexdigest()
        yield Unit(name=name, sha256=digest, pictures=last - first + 1)


def _count(tar: Path) -> int:
    """Return how many pictures a tar holds, by its headers; those before the damage, if damaged."""
    count = 0
    try:
        with tarfile.open(tar) as members:
            for member in members:
                count += member.isfile() and member.name.lower().endswith(SUFFIXES)
    except (tarfile.TarError, EOFError, OSError):
        pass
    return count
