"""Make a painter's image sets, and go on where a killed run stopped.

What is painted is kept by all that decides it: a cell that is there already, whoever painted it, is
linked and not painted again; of a cell under way, the batches that are done.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lcm_lora.code import code_sha256, versions
from lcm_lora.data.picture_sets import read_set
from lcm_lora.data.shards import read_tar_members, write_tar
from lcm_lora.files import link, new_folder, sha256
from lcm_lora.painting.studio import Studio
from lcm_lora.params.generate import Cell, Generate, Sampling, cell_id
from lcm_lora.pieces import Pieces, key_of
from lcm_lora.progress import Advance, progress
from lcm_lora.records import read_record, write_record
from lcm_lora.seeing.image_sets import PAINTED, captions_sha256
from lcm_lora.seeing.set_records import Painted, SetRecord, SetScheduler

if TYPE_CHECKING:
    from lcm_lora.bases import Base

_TAR, _SCHEDULER = "pictures.tar", "scheduler.json"


@dataclass(frozen=True, slots=True)
class Theme:
    """What all painters are given: captions, how large, and the noise that pictures start from."""

    captions: tuple[str, ...]
    size: int
    """H = W."""
    seed: int
    """Of all noise."""
    batch: int
    """Pictures that are made at a time."""


def read_theme(params: Generate, evaluation: Path, prompts: int | None = None) -> Theme:
    """Return what the evaluation set gives to painters.

    Args:
        params: Which seed, how many pictures at a time.
        evaluation: What `prepare` wrote.
        prompts: So many captions, from the first; None for all.

    Raises:
        UserError: The evaluation set is missing.
    """
    real = read_set(evaluation, "real")
    return Theme(real.captions[:prompts], real.resolution, params.seed, params.batch)


@dataclass(frozen=True, slots=True)
class Sets:
    """The image sets of a painter, one for each of its cells."""

    name: str
    painter: Sampling
    studio: Studio
    theme: Theme

    @property
    def count(self) -> int:
        """All their pictures."""
        return len(self.painter.cells) * len(self.theme.captions)

    def places(self) -> list[str]:
        """Return the names of the pieces that they are kept in, in the order of the cells."""
        return [_key(self, cell) for cell in self.painter.cells]

    def make(self, pieces: Pieces, advance: Advance, out: Path) -> None:
        """Put the sets into the folder `out`, and paint those that are not there yet.

        Args:
            pieces: Keeps what was painted.
            advance: Told of every batch.
            out: Folder that is there.

        Raises:
            UserError: An adapter does not fit.
        """
        _list(self.theme, self.painter.cells, out)
        for cell, key in zip(self.painter.cells, self.places(), strict=True):
            job = _Job(self, cell)
            _make(job, pieces, key, advance)
            _put(job, pieces.path(key), out)


def generate(
    name: str,
    painter: Sampling,
    theme: Theme,
    studio: Studio | None,
    pieces: Pieces,
    out: Path,
) -> None:
    """Make every image set of the painter `name`.

    Args:
        name: Of the painter.
        painter: Which cells.
        theme: What is painted.
        studio: What it paints with; None where there is no champion, and nothing to paint.
        pieces: Keeps what was painted.
        out: Folder to write.

    Raises:
        UserError: An adapter does not fit.
    """
    with new_folder(out) as made:
        if studio is None:
            pieces.claim(name, ())
            _list(theme, (), made)
            return
        sets = Sets(name, painter, studio, theme)
        pieces.claim(name, sets.places())
        with progress(f"generate {name}", sets.count, "pictures") as advance:
            sets.make(pieces, advance, made)


def _list(theme: Theme, cells: Sequence[Cell], out: Path) -> None:
    names = tuple(cell.name for cell in cells)
    write_record(out / PAINTED, Painted(captions=theme.captions, cells=names))


@dataclass(frozen=True, slots=True)
class _Job:
    """One cell to paint."""

    sets: Sets
    cell: Cell

    @property
    def name(self) -> str:
        """What progress says of it."""
        return cell_id(self.sets.name, self.cell)


def _key(sets: Sets, cell: Cell) -> str:
    """Return what decides a cell's bytes; the painter's name does not."""
    painter, studio, theme = sets.painter, sets.studio, sets.theme
    return key_of(
        code=code_sha256(__name__),
        versions=versions(),
        subject=studio.subject.sha256,
        worn=studio.wears,
        lcm=studio.subject.lcm_config if painter.sampler == "lcm" else None,
        sampler=painter.sampler,
        eta=painter.eta,
        cell=cell.model_dump(),
        seed=theme.seed,
        batch=theme.batch,
        size=theme.size,
        captions=captions_sha256(theme.captions),
        where=studio.where,
    )


def _make(job: _Job, pieces: Pieces, key: str, advance: Advance) -> None:
    """Paint a cell unless it is there, or another painter's stage is just making the same."""
    with pieces.locked(key):
        if pieces.find(key) is None:
            _paint(job, pieces, key, advance)
        else:
            advance(len(job.sets.theme.captions), job.name)
        pieces.clear(key)


def _paint(job: _Job, pieces: Pieces, key: str, advance: Advance) -> None:
    """Paint a cell batch by batch, each kept when it is done."""
    done = pieces.on_the_way_to(key)
    captions, batch = job.sets.theme.captions, job.sets.theme.batch
    names = [
        _batch(job, done, first, captions[first : first + batch], advance)
        for first in range(0, len(captions), batch)
    ]
    with pieces.make(key) as made:
        write_tar(made / _TAR, _members(done, names))
        shutil.copyfile(done.path(names[0]) / _SCHEDULER, made / _SCHEDULER)


def _batch(job: _Job, done: Pieces, first: int, captions: Sequence[str], advance: Advance) -> str:
    name = f"{first:08d}"
    if done.find(name) is None:
        from lcm_lora.painting.paint import paint

        painter, theme = job.sets.painter, job.sets.theme
        base = job.sets.studio.take(painter)
        how = (job.cell, theme.size, theme.seed, first, painter.eta)
        pictures = paint(base, captions, *how)
        with done.make(name) as made:
            write_tar(made / _TAR, _as_png(pictures, first))
            write_record(made / _SCHEDULER, _scheduler_of(base))
    advance(len(captions), job.name)
    return name


def _members(done: Pieces, names: list[str]) -> Iterator[tuple[str, bytes]]:
    for name in names:
        yield from read_tar_members(done.path(name) / _TAR)


def _put(job: _Job, folder: Path, out: Path) -> None:
    """Link a cell's pictures into the output, with the record beside them."""
    sets, cell = job.sets, job.cell
    tar, theme = out / f"{cell.name}.tar", sets.theme
    link(folder / _TAR, tar)
    record = SetRecord(
        painter=sets.name,
        subject_sha256=sets.studio.subject.sha256,
        sampler=sets.painter.sampler,
        steps=cell.steps,
        guidance=cell.guidance,
        seeds=cell.seeds,
        nfe=cell.nfe,
        count=len(theme.captions),
        scheduler=read_record(folder / _SCHEDULER, SetScheduler, "remove it"),
        prompts_sha256=captions_sha256(theme.captions),
        height=theme.size,
        width=theme.size,
        tar_sha256=sha256(tar),
    )
    write_record(tar.with_suffix(".json"), record)


def _scheduler_of(base: Base) -> SetScheduler:
    scheduler = base.pipeline.scheduler
    timesteps = tuple(int(t) for t in scheduler.timesteps)
    return SetScheduler(**{"class": type(scheduler).__name__}, timesteps=timesteps)


def _as_png(pictures: NDArray[np.uint8], first: int) -> Iterator[tuple[str, bytes]]:
    for index, picture in enumerate(pictures, first):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG", compress_level=1)
        yield f"{index:08d}.png", buffer.getvalue()
