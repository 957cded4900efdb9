"""Draw samples at random from training shards, reading only the shards that hold them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lcm_lora.data.shard import INDEX, ShardIndex
from lcm_lora.data.shards import ShardSample, read_shard
from lcm_lora.errors import UserError
from lcm_lora.records import read_record

_MEND = "run `lcm-lora prepare`, or name a folder of training shards"


def draw(folder: Path, count: int, seed: int) -> list[ShardSample]:
    """Return `count` samples of a folder of shards, or all where it has fewer, in their order.

    Args:
        folder: Training shards and their index.
        count: At most so many.
        seed: The same seed and shards give the same samples.

    Raises:
        UserError: The folder holds no shards, or broken ones.
    """
    index = read_record(folder / INDEX, ShardIndex, _MEND)
    if not index.samples:
        raise UserError(f"{folder}: holds no samples; {_MEND}")
    numbers = np.random.default_rng(seed).permutation(index.samples)[:count]
    return list(_samples(folder, index, sorted(int(number) for number in numbers)))


def _samples(folder: Path, index: ShardIndex, numbers: list[int]) -> Iterator[ShardSample]:
    """Yield the samples of these numbers, counted over all shards from 0."""
    first = 0
    for shard in index.shards:
        inside = {number - first for number in numbers if 0 <= number - first < shard.samples}
        first += shard.samples
        if inside:
            read = itertools.islice(read_shard(folder, shard), max(inside) + 1)
            yield from (sample for place, sample in enumerate(read) if place in inside)
