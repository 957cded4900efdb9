"""Compare the training data of now with those that the champion was trained on."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

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
from tasks.running import process
from tasks.running.run_cache import RunCache

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
    with RunCache(root) as cache:
        old, new = (cache.held(layout.SHARDS, value) for value in (before, now))
        if new.keys() <= {*old, Path(INDEX)}:
            return None
        _lay_out(cache, old, place / "before", params)
        _lay_out(cache, new, place / "now", params, but=old)
    _look(root, get_run_logger().info)
    return read_record(root / layout.DRIFT, DriftRecord, _MEND)


def _lay_out(
    cache: RunCache,
    files: Mapping[Path, Any],
    folder: Path,
    params: Drift,
    but: Collection[Path] = (),
) -> None:
    """Put so many shards into a folder that samples can be drawn of them, in a random order."""
    cache.lay_out({Path(INDEX): files[Path(INDEX)]}, folder)
    index = read_record(folder / INDEX, ShardIndex, _MEND)
    those = [shard for shard in index.shards if Path(shard.file) not in but]
    chosen: list[Shard] = []
    for number in np.random.default_rng(params.seed).permutation(len(those)):
        enough = sum(s.samples for s in chosen) >= _SAMPLES_A_PICTURE * params.pictures
        if enough and len(chosen) >= _FEWEST_SHARDS:
            break
        chosen.append(those[number])
    cache.lay_out({Path(shard.file): files[Path(shard.file)] for shard in chosen}, folder)
    count = sum(shard.samples for shard in chosen)
    part = index.model_copy(update={"samples": count, "shards": tuple(chosen)})
    write_record(folder / INDEX, part)


def _look(root: Path, say: Callable[[str], None]) -> None:
    """Let networks look, in a process of their own."""
    command = [str(Path(sys.executable).with_name("lcm-lora")), "drift"]
    ended = process.heard([*command, str(_PLACE / "before"), str(_PLACE / "now")], root, say)
    if ended.status:
        raise UserError(f"lcm-lora drift: {ended.why('error: ')}")
