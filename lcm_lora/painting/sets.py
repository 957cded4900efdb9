"""Make a painter's image sets, and go on where a killed run stopped.

What is painted is kept by all that decides it: a cell that is there already, whoever painted it, is
linked and not painted again; of a cell under way, the batches that are done.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lcm_lora.code import code_sha256, versions
from lcm_lora.data.picture_sets import PictureSet, read_set
from lcm_lora.data.shards import read_tar_members, write_tar
from lcm_lora.files import link, new_folder, sha256
from lcm_lora.hashes import Hashes
from lcm_lora.params.generate import Cell, Generate, Sampling
from lcm_lora.params.hardware import Hardware
from lcm_lora.pieces import Pieces, key_of
from lcm_lora.progress import Advance, progress
from lcm_lora.records import read_record, write_record
from lcm_lora.seeing.image_sets import PAINTED, captions_sha256
from lcm_lora.seeing.set_records import Painted, SetRecord, SetScheduler

if TYPE_CHECKING:
    from lcm_lora.bases import Base
    from lcm_lora.painting.subject import Subject

_TAR, _SCHEDULER = "pictures.tar", "scheduler.json"


@dataclass
class Studio:
    """What paints: a subject on its base, which is loaded when the first picture needs it."""

    subject: Subject
    hardware: Hardware

    @cached_property
    def where(self) -> dict[str, Any]:
        """What of the hardware decides the last bits, as it is here."""
        from lcm_lora.device import decides, pick_device

        return {"precision": self.hardware.precision, **decides(pick_device(self.hardware))}

    @cached_property
    def base(self) -> Base:
        """The base, with the subject's adapters in its weights."""
        from lcm_lora.bases import load_base  # heavy, and needless where all is painted
        from lcm_lora.painting.dressed import fuse

        base = load_base(self.subject.base, self.hardware)
        fuse(base, self.subject)
        return base

    def take(self, painter: Sampling) -> Base:
        """Return the base with a fresh scheduler of the painter."""
        from lcm_lora.painting.schedulers import scheduler_of

        pipeline = self.base.pipeline
        config = dict(pipeline.scheduler.config)
        pipeline.scheduler = scheduler_of(painter.sampler, config, self.subject.lcm_config)
        return self.base


def generate(
    params: Generate,
    name: str,
    studio: Studio | None,
    evaluation: Path,
    store: Path,
    hashes: Hashes,
    out: Path,
) -> None:
    """Make every image set of the painter `name` for the captions of the evaluation set.

    Args:
        params: Which cells, which seed.
        name: Of the painter.
        studio: What it paints with; None where there is no champion, and nothing to paint.
        evaluation: What `prepare` wrote.
        store: Folder that keeps what was painted.
        hashes: Of files that were read before.
        out: Folder to write.

    Raises:
        UserError: The evaluation set is missing, or an adapter does not fit.
    """
    real = read_set(evaluation, "real")
    painter = params.painter(name)
    cells = painter.cells if studio else ()
    with new_folder(out) as made:
        names = tuple(cell.name for cell in cells)
        write_record(made / PAINTED, Painted(captions=real.captions, cells=names))
        pieces = Pieces(store, hashes)
        if studio is None:
            pieces.claim(name, ())
            return
        keys = {cell: _key(params, painter, cell, studio, real) for cell in cells}
        pieces.claim(name, keys.values())
        total = len(cells) * len(real.captions)
        with progress(f"generate {name}", total, "pictures") as advance:
            for cell, key in keys.items():
                job = _Job(params, painter, cell, studio, real)
                _make(job, pieces, key, hashes, advance)
                _put(job, name, pieces.path(key), made)


@dataclass(frozen=True, slots=True)
class _Job:
    """One cell to paint."""

    params: Generate
    painter: Sampling
    cell: Cell
    studio: Studio
    real: PictureSet


def _key(params: Generate, painter: Sampling, cell: Cell, studio: Studio, real: PictureSet) -> str:
    """Return what decides a cell's bytes; the painter's name does not."""
    return key_of(
        code=code_sha256(__name__),
        versions=versions(),
        subject=studio.subject.sha256,
        lcm=studio.subject.lcm_config if painter.sampler == "lcm" else None,
        sampler=painter.sampler,
        eta=painter.eta,
        cell=cell.model_dump(),
        seed=params.seed,
        batch=params.batch,
        size=real.resolution,
        captions=captions_sha256(real.captions),
        where=studio.where,
    )


def _make(job: _Job, pieces: Pieces, key: str, hashes: Hashes, advance: Advance) -> None:
    """Paint a cell unless it is there, or another painter's stage is just making the same."""
    with pieces.locked(key):
        if pieces.find(key) is None:
            _paint(job, pieces, key, hashes, advance)
        else:
            advance(len(job.real.captions), job.cell.name)
        pieces.clear(key)


def _paint(job: _Job, pieces: Pieces, key: str, hashes: Hashes, advance: Advance) -> None:
    """Paint a cell batch by batch, each kept when it is done."""
    parts = pieces.path(f"{key}.parts")
    done = Pieces(parts, hashes)
    captions, batch = job.real.captions, job.params.batch
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

        base, size = job.studio.take(job.painter), job.real.resolution
        how = (job.cell, size, job.params.seed, first, job.painter.eta)
        pictures = paint(base, captions, *how)
        with done.make(name) as made:
            write_tar(made / _TAR, _as_png(pictures, first))
            write_record(made / _SCHEDULER, _scheduler_of(base))
    advance(len(captions), job.cell.name)
    return name


def _members(done: Pieces, names: list[str]) -> Iterator[tuple[str, bytes]]:
    for name in names:
        yield from read_tar_members(done.path(name) / _TAR)


def _put(job: _Job, name: str, folder: Path, out: Path) -> None:
    """Link a cell's pictures into the output, with the record beside them."""
    tar, cell = out / f"{job.cell.name}.tar", job.cell
    link(folder / _TAR, tar)
    record = SetRecord(
        painter=name,
        subject_sha256=job.studio.subject.sha256,
        sampler=job.painter.sampler,
        steps=cell.steps,
        guidance=cell.guidance,
        seeds=cell.seeds,
        nfe=cell.nfe,
        count=len(job.real.captions),
        scheduler=read_record(folder / _SCHEDULER, SetScheduler, "remove it"),
        prompts_sha256=captions_sha256(job.real.captions),
        height=job.real.resolution,
        width=job.real.resolution,
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
