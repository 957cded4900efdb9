"""Turn the units of a source into shards of their own, each made once.

The split hangs on a picture's content alone: appended data moves no sample from one split to
another, and copies of one picture stay together. What comes of a unit is a piece: the next run
decodes only what is new, and gives the bytes that a run from nothing gives.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lcm_lora.code import code_sha256, versions
from lcm_lora.data.folder import printable
from lcm_lora.data.pictures import crop, encoded
from lcm_lora.data.prepared import Rejected, merged
from lcm_lora.data.shard import Shard
from lcm_lora.data.shards import SampleRecord, ShardSample, write_shard
from lcm_lora.data.sources import (
    Raw,
    Reader,
    Rejection,
    caption_problem,
    content_sha256,
    everything,
    judge,
    open_units,
)
from lcm_lora.data.threads import in_order
from lcm_lora.data.units import Unit
from lcm_lora.hashes import Hashes
from lcm_lora.params.prepare import Prepare
from lcm_lora.params.sources import Source
from lcm_lora.parts import Part, Parts
from lcm_lora.pieces import Pieces, key_of
from lcm_lora.progress import Advance, progress
from lcm_lora.records import Record, read_record, write_record

Split = Literal["train", "held_out", "selection"]

UNIT = "unit.json"


class Kept(Record):
    """A sample that is kept out of training, to be found again in its unit."""

    name: str
    sha256: str
    caption: str


class UnitRecord(Record):
    """What came of one unit of the source."""

    read: int
    shards: tuple[Shard, ...]
    held_out: tuple[Kept, ...]
    selection: tuple[Kept, ...]
    rejected: dict[str, Rejected]


@dataclass(frozen=True, slots=True)
class Store:
    """What earlier runs made, in pieces and parts of them, and what is known of files."""

    pieces: Pieces
    parts: Path
    hashes: Hashes


@dataclass(frozen=True, slots=True)
class Made:
    """A unit, how to read it again, the name of its piece and the record of what came of it."""

    unit: Unit
    read: Reader
    key: str
    record: UnitRecord


def prepare_units(
    params: Prepare, source: Source, units: Sequence[Unit], store: Store
) -> Iterator[Made]:
    """Yield what came of each unit, in order; only pictures not met before are decoded.

    Args:
        params: How pictures are filtered, cropped, split and kept.
        source: Where they come from.
        units: What the first look found there.
        store: What earlier runs made, and what is known of the source's files.

    Raises:
        UserError: The source is not what the first look found.
    """
    how = {
        "params": params.model_dump(mode="json", exclude={"source"}),
        "code": code_sha256(__name__),
        "versions": versions(),
    }
    total, kept = sum(unit.pictures for unit in units), 0
    with (
        progress("prepare", total, "pictures") as advance,
        ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool,
        Parts(store.parts, store.pieces, **how) as parts,
    ):
        for unit, read in open_units(source, units, params.resolution, store.hashes):
            key = key_of(unit=unit.sha256, **how)
            if folder := store.pieces.find(key):
                record = read_record(folder / UNIT, UnitRecord, "remove it")
                kept += unit.pictures
                advance(unit.pictures, f"{kept} kept from earlier runs")
            else:
                with store.pieces.make(key) as made:
                    places = _prepare_unit(params, unit, read, made, parts, pool, advance)
                parts.keep(key, places)
                record = read_record(store.pieces.path(key) / UNIT, UnitRecord, "remove it")
            yield Made(unit, read, key, record)


def split_of(sha256: str, params: Prepare) -> Split:
    """Return the split of a picture by its hash, in hex."""
    place = int(sha256[:16], 16) / 16**16
    if place < params.held_out:
        return "held_out"
    return "selection" if place < params.held_out + params.selection else "train"


def _prepare_unit(
    params: Prepare,
    unit: Unit,
    read: Reader,
    out: Path,
    parts: Parts,
    pool: ThreadPoolExecutor,
    advance: Advance,
) -> dict[str, Any]:
    """Write the shards of one unit and its record into the folder `out`.

    Returns:
        Where in there what came of each good picture is, by the picture's hash.
    """
    kept: dict[Split, list[Kept]] = {"held_out": [], "selection": []}
    rejected: dict[str, Rejected] = {}
    numbers = itertools.count()

    def met_before() -> Iterator[tuple[Raw, Part | None]]:
        for raw in read(everything):
            yield raw, parts.find(content_sha256(raw))

    def training() -> Iterator[ShardSample]:
        for found in in_order(pool, functools.partial(_judge, params), met_before()):
            number = next(numbers)
            advance()
            if isinstance(found, Rejection):
                _note(rejected, found)
            elif isinstance(found, Kept):
                kept[split_of(found.sha256, params)].append(found)
            else:
                yield found.keyed(f"{unit.sha256[:12]}-{number:06d}")

    samples = training()
    shards: list[Shard] = []
    places: dict[str, Any] = {}
    while written := write_shard(out, len(shards), samples, params.shard_samples):
        shards.append(written.shard)
        for sample, start, size in written.spans:
            span = {"file": written.shard.file, "start": start, "size": size}
            places[sample.record.sha256] = span | {"record": sample.record.model_dump(mode="json")}
    record = UnitRecord(
        read=next(numbers),
        shards=tuple(shards),
        held_out=tuple(kept["held_out"]),
        selection=tuple(kept["selection"]),
        rejected=rejected,
    )
    write_record(out / UNIT, record)
    return places | {sample.sha256: None for split in kept.values() for sample in split}


def _judge(params: Prepare, met: tuple[Raw, Part | None]) -> ShardSample | Kept | Rejection:
    """Decode a picture, and crop and encode it if it is for training; or copy what is known."""
    raw, part = met
    if part is not None:
        return _copied(raw, part)
    found = judge(raw)
    if isinstance(found, Rejection):
        return found
    if min(found.picture.size) < params.min_side:
        return Rejection(found.name, "too small")
    if split_of(found.sha256, params) != "train":
        return Kept(name=found.name, sha256=found.sha256, caption=found.caption)
    cropped = crop(found.picture, params.resolution)
    record = SampleRecord(
        original_size=(found.picture.height, found.picture.width),
        crop_top_left=cropped.top_left,
        sha256=found.sha256,
        source=found.name,
    )
    return ShardSample("", encoded(cropped.picture, params.quality), found.caption, record)


def _copied(raw: Raw, part: Part) -> ShardSample | Kept | Rejection:
    """Return what came of a picture before, under the name and caption that it has now."""
    name = printable(raw.name)
    problem = caption_problem(raw)
    if problem or raw.caption is None:
        return Rejection(name, problem or "no caption")
    caption, place = raw.caption.strip(), part.place
    if place is None:
        return Kept(name=name, sha256=content_sha256(raw), caption=caption)
    with (part.piece / place["file"]).open("rb") as tar:
        tar.seek(place["start"])
        content = tar.read(place["size"])
    record = SampleRecord.model_validate(place["record"]).model_copy(update={"source": name})
    return ShardSample("", content, caption, record)


def _note(rejected: dict[str, Rejected], rejection: Rejection) -> None:
    one = {str(rejection.reason): Rejected(count=1, examples=(rejection.name,))}
    rejected.update(merged(rejected, one))
