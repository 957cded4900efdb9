"""Compare the training data of now with those that the champion was trained on."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from lcm_lora import layout
from lcm_lora.data.shard import INDEX, Shard, ShardIndex
from lcm_lora.drift.record import DriftRecord
from lcm_lora.errors import UserError
from lcm_lora.files import link
from lcm_lora.params.drift import Drift
from lcm_lora.records import read_record, write_record
from tasks import process
from tasks.former import Former, former

_MEND = "run `python -m flows.drift`"
_FEWEST_SHARDS = 8
"""Of before, drawn at random, so that they are of all its parts."""
_SAMPLES_A_PICTURE = 4
"""Samples that are fetched for each picture that is drawn, at least."""
_PLACE = layout.CHECKPOINTS / "drift"


@task(task_run_name="compare data", cache_policy=NO_CACHE)
def compare(root: Path, before_md5: str, params: Drift) -> DriftRecord | None:
    """Compare the shards that are new since a data set of before with that; None if none is new.

    Args:
        root: The project's folder, where the shards of now are.
        before_md5: DVC's hash of the shards of before.
        params: How many samples, and the margins.

    Raises:
        UserError: The shards of before are lost, or there are too few samples.
    """
    place = root / _PLACE
    shutil.rmtree(place, ignore_errors=True)
    now = read_record(root / layout.SHARDS / INDEX, ShardIndex, _MEND)
    with former(root, layout.SHARDS, before_md5) as before:
        new = [shard for shard in now.shards if shard.file not in before.files]
        if not new:
            return None
        _fetch(before, place / "before", params)
    _write(now, new, place / "now", lambda name, to: link(root / layout.SHARDS / name, to))
    _look(root, get_run_logger().info)
    return read_record(root / layout.DRIFT, DriftRecord, _MEND)


def _fetch(before: Former, folder: Path, params: Drift) -> None:
    """Put so many shards of before into a folder that samples can be drawn of them."""
    folder.mkdir(parents=True)
    before.fetch(INDEX, folder / INDEX)
    index = read_record(folder / INDEX, ShardIndex, _MEND)
    chosen: list[Shard] = []
    for number in np.random.default_rng(params.seed).permutation(len(index.shards)):
        enough = sum(s.samples for s in chosen) >= _SAMPLES_A_PICTURE * params.pictures
        if enough and len(chosen) >= _FEWEST_SHARDS:
            break
        chosen.append(index.shards[number])
    _write(index, chosen, folder, before.fetch)


def _write(
    index: ShardIndex, shards: list[Shard], folder: Path, put: Callable[[str, Path], None]
) -> None:
    """Make a folder of some of the shards of an index."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in shards:
        put(shard.file, folder / shard.file)
    count = sum(shard.samples for shard in shards)
    part = index.model_copy(update={"samples": count, "shards": tuple(shards)})
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
