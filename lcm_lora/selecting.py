"""Choose the best candidate of a training: quality peaks and falls while the loss still sinks.

Every candidate paints the captions of the selection set from the same noise, so that what a hard
caption does to all of them cancels when they are compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lcm_lora.bases import Base
from lcm_lora.candidates import Candidate
from lcm_lora.data.picture_sets import PictureSet, read_set
from lcm_lora.evaluation.estimates import Estimator, estimator_of
from lcm_lora.evaluation.scores import MetricRecord
from lcm_lora.evaluation.selection import JudgedCandidate, Selection, best
from lcm_lora.files import link, new_folder
from lcm_lora.painting.dressed import wearing
from lcm_lora.painting.paint import paint
from lcm_lora.painting.schedulers import scheduler_of
from lcm_lora.painting.subject import with_adapter
from lcm_lora.params.generate import Cell
from lcm_lora.params.select import Select
from lcm_lora.progress import Advance, progress
from lcm_lora.records import write_record
from lcm_lora.seeing.image_sets import real_set
from lcm_lora.seeing.network_files import Networks

_SET = "selection"


def select(
    params: Select,
    metric: MetricRecord,
    networks: Networks,
    base: Base,
    candidates: list[Candidate],
    selection: Path,
    adapter: Path,
    out: Path,
) -> None:
    """Judge every candidate, give the best one's files to `adapter`, and write the choice to `out`.

    Args:
        params: By which metric of which pictures.
        metric: What is known of that metric.
        networks: Which look.
        base: What the candidates were distilled from.
        candidates: At least one, in the order of their steps.
        selection: Folder of the selection set.
        adapter: Folder to write: the best candidate's, byte for byte.
        out: Record to write, in a folder of its own.

    Raises:
        UserError: The selection set, a candidate or a network is missing or wrong.
    """
    real = read_set(selection, _SET)
    with new_folder(out.parent) as made:
        measure = _estimator(params, networks, base, selection)
        rows = tuple(_judged(params, base, candidates, real, measure))
        chosen = best(rows, metric.lower_is_better)
        record = Selection(
            metric=params.metric,
            lower_is_better=metric.lower_is_better,
            steps=params.steps,
            guidance=params.guidance,
            prompts=len(real.captions),
            rows=rows,
            chosen=chosen.step,
        )
        write_record(made / out.name, record)
        _give(candidates[rows.index(chosen)].folder, adapter)


def _estimator(params: Select, networks: Networks, base: Base, selection: Path) -> Estimator:
    images = real_set(selection, _SET)
    images.check()
    real = (np.asarray(images.decoded(*png)) for png in images.pngs())
    return estimator_of(params.metric, networks, images.captions, real, base.device)


def _judged(
    params: Select,
    base: Base,
    candidates: list[Candidate],
    real: PictureSet,
    measure: Estimator,
) -> Iterator[JudgedCandidate]:
    with progress("select", len(candidates) * len(real.captions), "pictures") as advance:
        for candidate in candidates:
            estimate = measure(_painted(params, base, candidate, real, advance))
            yield JudgedCandidate(step=candidate.step, value=estimate.value, se=estimate.se)


def _painted(
    params: Select, base: Base, candidate: Candidate, real: PictureSet, advance: Advance
) -> Iterator[NDArray[np.uint8]]:
    """Yield a candidate's pictures, uint8 [H, W, 3], and leave the base as it was."""
    cell = Cell(steps=params.steps, guidance=params.guidance)
    subject = with_adapter(base.found, candidate.folder)
    with wearing(base, subject):
        config = dict(base.pipeline.scheduler.config)
        for first in range(0, len(real.captions), params.batch):
            part = real.captions[first : first + params.batch]
            base.pipeline.scheduler = scheduler_of("lcm", config, subject.lcm_config)
            yield from paint(base, part, cell, real.resolution, params.seed, first)
            advance(len(part), candidate.folder.name)


def _give(candidate: Path, adapter: Path) -> None:
    with new_folder(adapter) as made:
        for file in candidate.iterdir():
            link(file, made / file.name)
