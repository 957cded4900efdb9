"""Compare the training data of now with those that the champion was trained on."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from lcm_lora import layout
from lcm_lora.data.shard import INDEX, Shard, ShardIndex
from lcm_lora.drift.record import DriftRecord
from lcm_lora.errors import UserError
from lcm_lora.params.drift import Drift
from lcm_lora.records import read_record, write_record
from tasks import process
from tasks.former import Former, former

_MEND = "run `python -m flows.drift`"
_FEWEST_SHARDS = 8
"""Drawn at random, so that samples are of all parts of the data."""
_SAMPLES_A_PICTURE = 4
"""Samples that are fetched for each picture that is drawn, at least."""
_PLACE = layout.CHECKPOINTS / "drift"


@task(task_run_name="compare data", cache_policy=NO_CACHE)
def compare(root: Path, before: str, now: str, params: Drift) -> DriftRecord | None:
    """Compare the shards that are new since a data set of before with that; None if none is new.

    Args:
        root: The project's folder; the shards need not be there.
        before: DVC's hash of the shards of before.
        now: That of the shards of now.
        params: How many samples, and the margins.

    Raises:
        UserError: Shards are lost, or there are too few samples.
    """
    place = root / _PLACE
    shutil.rmtree(place, ignore_errors=True)
    with former(root, layout.SHARDS, before) as old, former(root, layout.SHARDS, now) as new:
        if new.files.keys() <= {*old.files, INDEX}:
            return None
        _fetch(old, place / "before", params)
        _fetch(new, place / "now", params, but=old.files)
    _look(root, get_run_logger().info)
    return read_record(root / layout.DRIFT, DriftRecord, _MEND)


def _fetch(shards: Former, folder: Path, params: Drift, but: Collection[str] = ()) -> None:
    """Put so many shards into a folder that samples can be drawn of them, in a random order."""
    folder.mkdir(parents=True)
    shards.fetch(INDEX, folder / INDEX)
    index = read_record(folder / INDEX, ShardIndex, _MEND)
    those = [shard for shard in index.shards if shard.file not in but]
    chosen: list[Shard] = []
    for number in np.random.default_rng(params.seed).permutation(len(those)):
        enough = sum(s.samples for s in chosen) >= _SAMPLES_A_PICTURE * params.pictures
        if enough and len(chosen) >= _FEWEST_SHARDS:
            break
        chosen.append(those[number])
    for shard in chosen:
        shards.fetch(shard.file, folder / shard.file)
    count = sum(shard.samples for shard in chosen)
    part = index.model_copy(update={"samples": count, "shards": tuple(chosen)})
    write_record(folder / INDEX, part)


def _look(root: Path, on_line: Callable[[str], None]) -> None:
    """Let networks look, in a process of their own."""
    said: list[str] = []

    def take(line: str) -> None:
        said.append(line)
        on_line(line)

    command = [str(Path(sys.executable).with_name("lcm-lora")), "drift"]
    status = process.run(
        [*command, str(_PLACE / "before"), str(_PLACE / "now")],
        take,
        folder=root,
        environment=os.environ,
        stop=threading.Event(),
    )
    if status:
        last = said[-1] if said else process.death(status) or f"exit status {status}"
        raise UserError(f"lcm-lora drift: {last.removeprefix('error: ')}")
