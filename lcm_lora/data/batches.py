"""Read any samples of the cache at once, in an order that is a pure function of seed and position.

Nothing here remembers where it was: a run that resumes asks for the next position and gets the same
batch as one that never stopped, however many processes share it. Rows are read from their places in
the files, so memory does not grow with the data.

Legend: B batch, C x h x w latents.
"""

from __future__ import annotations

import functools
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lcm_lora.data.cache import CacheIndex
from lcm_lora.data.latent_file import LatentFile
from lcm_lora.data.shard import INDEX, Shard
from lcm_lora.errors import UserError
from lcm_lora.hashes import Hashes
from lcm_lora.records import read_record

_MEND = "run `lcm-lora encode`"


def order(count: int, seed: int, position: int, batch: int) -> list[int]:
    """Return which samples make up the batch that starts at a place of the endless sequence.

    The sequence is one permutation of all samples after another, each a function of the seed and
    its epoch; a batch may reach from one epoch into the next.

    Args:
        count: Samples there are.
        seed: Names the sequence.
        position: How many samples come before this batch.
        batch: Samples wanted.
    """
    indices: list[int] = []
    while len(indices) < batch:
        epoch, start = divmod(position + len(indices), count)
        rest = _permutation(count, seed, epoch)[start : start + batch - len(indices)]
        indices.extend(rest.tolist())
    return indices


@functools.lru_cache(maxsize=2)
def _permutation(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(count)


@dataclass(frozen=True, slots=True)
class LatentBatch:
    """Latent moments, float32 [B, C, h, w] and not yet scaled, with captions and sizes."""

    mean: Tensor
    std: Tensor
    captions: list[str]
    time_ids: Tensor
    """The sizes that SDXL is told, float32 [B, 6]."""


class LatentCache:
    """The encoded training samples, on disk."""

    def __init__(self, cache: Path, hashes: Hashes) -> None:
        """Open a cache, and check every file of it that was not checked before.

        Raises:
            UserError: It is missing, incomplete or damaged.
        """
        self.index = read_record(cache / INDEX, CacheIndex, _MEND)
        self._ends = list(accumulate(shard.samples for shard in self.index.shards))
        self._files = [LatentFile(_checked(cache, shard, hashes)) for shard in self.index.shards]

    def __len__(self) -> int:
        """Return how many samples there are."""
        return self._ends[-1]

    def rows(self, indices: Sequence[int]) -> LatentBatch:
        """Return the samples at these places, each in 0..len-1, in the order given."""
        samples = [self._sample(index) for index in indices]
        mean, std, time_ids = (
            torch.from_numpy(np.stack([sample[name] for sample in samples])).float()
            for name in ("mean", "std", "time_ids")
        )
        captions = [sample["caption"].tobytes().decode() for sample in samples]
        return LatentBatch(mean, std, captions, time_ids)

    def _sample(self, index: int) -> dict[str, NDArray[Any]]:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        number = bisect_right(self._ends, index)
        return self._files[number].sample(index - (self._ends[number - 1] if number else 0))


def _checked(cache: Path, shard: Shard, hashes: Hashes) -> Path:
    path = cache / shard.file
    if not path.is_file():
        raise UserError(f"{path}: no such file; {_MEND}")
    if hashes.sha256(path) != shard.sha256:
        raise UserError(f"{path}: damaged, not the file that {INDEX} lists; {_MEND}")
    return path
