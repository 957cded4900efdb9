"""Choose the best candidate of a training: quality peaks and falls while the loss still sinks.

Every candidate paints the captions of the selection set from the same noise, so that what a hard
caption does to all of them cancels when they are compared.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from lcm_lora.bases import Base
from lcm_lora.candidates import Candidate
from lcm_lora.data.picture_sets import PictureSet, read_set
from lcm_lora.evaluation.estimates import Estimator, estimator_of
from lcm_lora.evaluation.features import unpack
from lcm_lora.evaluation.image_sets import real_set
from lcm_lora.evaluation.names import is_lower_better
from lcm_lora.evaluation.selection import JudgedCandidate, Selection, best
from lcm_lora.files import link, new_folder
from lcm_lora.params.generate import Cell
from lcm_lora.params.score import Score
from lcm_lora.params.select import Select
from lcm_lora.progress import Advance, progress
from lcm_lora.records import write_record
from lcm_lora.sampling import load_adapter, paint, scheduler_of
from lcm_lora.shapes import places

_SET = "selection"


def select(
    params: Select,
    score: Score,
    base: Base,
    candidates: list[Candidate],
    selection: Path,
    adapter: Path,
    out: Path,
    judges: Path = places.JUDGES,
) -> None:
    """Judge every candidate, give the best one's files to `adapter`, and write the choice to `out`.

    Args:
        params: By which metric of which pictures.
        score: Which networks look.
        base: What the candidates were distilled from.
        candidates: At least one, in the order of their steps.
        selection: Folder of the selection set.
        adapter: Folder to write: the best candidate's, byte for byte.
        out: Record to write, in a folder of its own.
        judges: Folder of the networks that the shapes world ships.

    Raises:
        UserError: The selection set, a candidate or a network is missing or wrong.
    """
    real = read_set(selection, _SET)
    with new_folder(out.parent) as made:
        measure = _estimator(params, score, base, selection, judges)
        rows = tuple(_judged(params, base, candidates, real, measure))
        chosen = best(rows, params.metric)
        record = Selection(
            metric=params.metric,
            lower_is_better=is_lower_better(params.metric),
            steps=params.steps,
            guidance=params.guidance,
            prompts=len(real.captions),
            rows=rows,
            chosen=chosen.step,
        )
        write_record(made / out.name, record)
        _give(candidates[rows.index(chosen)].folder, adapter)


def _estimator(
    params: Select, score: Score, base: Base, selection: Path, judges: Path
) -> Estimator:
    images = real_set(selection, _SET)
    with tempfile.TemporaryDirectory() as folder:
        real = unpack(images, Path(folder))
        return estimator_of(params.metric, score, images.captions, real, base.device, judges)


def _judged(
    params: Select,
    base: Base,
    candidates: list[Candidate],
    real: PictureSet,
    measure: Estimator,
) -> Iterator[JudgedCandidate]:
    with progress("select", len(candidates) * len(real.captions), "pictures") as advance:
        for candidate in candidates:
            with tempfile.TemporaryDirectory() as folder:
                files = _paint(params, base, candidate, real, Path(folder), advance)
                estimate = measure(files)
            yield JudgedCandidate(step=candidate.step, value=estimate.value, se=estimate.se)


def _paint(
    params: Select,
    base: Base,
    candidate: Candidate,
    real: PictureSet,
    folder: Path,
    advance: Advance,
) -> list[Path]:
    """Write a candidate's pictures into a folder, and leave the base as it was."""
    cell = Cell(steps=params.steps, guidance=params.guidance)
    captions, files = list(real.captions), []
    load_adapter(base, candidate.folder)
    base.pipeline.scheduler = scheduler_of("lcm", base, candidate.folder)
    pictures = paint(base, captions, cell, real.resolution, params.seed, params.batch, advance)
    for index, picture in enumerate(pictures):
        files.append(folder / f"{index:08d}.png")
        Image.fromarray(picture).save(files[-1], "PNG", compress_level=1)
    base.pipeline.unload_lora_weights()
    return files


def _give(candidate: Path, adapter: Path) -> None:
    with new_folder(adapter) as made:
        for file in candidate.iterdir():
            link(file, made / file.name)
