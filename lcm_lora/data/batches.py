"""Read any samples of the cache at once, in an order that is a pure function of seed and position.

Nothing here remembers where it was: a run that resumes asks for the next position and gets the same
batch as one that never stopped, however many processes share it.

Legend: B batch, C x h x w latents, L tokens, D and P widths of a text embedding and a pooled one.
"""

from __future__ import annotations

import functools
import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from lcm_lora.data.encode import CAPTIONS, EMPTY, INDEX, CacheShard, Index
from lcm_lora.errors import UserError

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
    """Latent moments, float32 [B, C, h, w] and not yet scaled, with what the base is told besides.

    `conditioning` holds `prompt_embeds` [B, L, D], and for SDXL `pooled` [B, P] and `time_ids`
    float32 [B, 6].
    """

    mean: Tensor
    std: Tensor
    conditioning: dict[str, Tensor]


class LatentCache:
    """The encoded training samples: moments stay on disk, embeddings are in memory."""

    def __init__(self, cache: Path) -> None:
        """Open a cache.

        Raises:
            UserError: It is missing or incomplete.
        """
        index = _read_index(cache / INDEX)
        self.kind = index["kind"]
        self.base = index["base"]
        self.scaling_factor = index["scaling_factor"]
        self.shape = (index["channels"], index["height"], index["width"])
        self.shards_sha256 = index["shards_sha256"]
        self._ends = list(accumulate(shard["samples"] for shard in index["shards"]))
        try:
            self._files = [self._open(cache, shard) for shard in index["shards"]]
            self._embeddings = load_file(cache / CAPTIONS)
            self._empty = load_file(cache / EMPTY)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{cache}: incomplete cache ({error}); {_MEND}") from None

    def __len__(self) -> int:
        """Return how many samples there are."""
        return self._ends[-1]

    def rows(self, indices: Sequence[int]) -> LatentBatch:
        """Return the samples at these places, each in 0..len-1, in the order given."""
        places = [self._place(index) for index in indices]
        captions = self._gather("caption", places)
        conditioning = {name: values[captions] for name, values in self._embeddings.items()}
        if self.kind == "sdxl":
            conditioning["time_ids"] = self._gather("time_ids", places)
        return LatentBatch(self._gather("mean", places), self._gather("std", places), conditioning)

    def empty(self, batch: int) -> dict[str, Tensor]:
        """Return the unconditional branch for B samples; SDXL's sizes are those of the samples."""
        return {name: value.expand(batch, *value.shape[1:]) for name, value in self._empty.items()}

    def _place(self, index: int) -> tuple[int, int]:
        """Return which shard holds a sample, and in which row."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        shard = bisect_right(self._ends, index)
        return shard, index - (self._ends[shard - 1] if shard else 0)

    def _gather(self, name: str, places: Sequence[tuple[int, int]]) -> Tensor:
        rows = [self._files[shard].get_slice(name)[row : row + 1] for shard, row in places]
        return torch.cat(rows)

    def _open(self, cache: Path, shard: CacheShard) -> Any:
        """Map a shard: a row costs its own bytes, and the system keeps what is read often."""
        file = safe_open(cache / shard["file"], framework="pt")
        for name in ("mean", "std"):
            if file.get_slice(name).get_shape() != [shard["samples"], *self.shape]:
                raise UserError(f"{cache / shard['file']}: not as {INDEX} says; {_MEND}")
        return file


def _read_index(path: Path) -> Index:
    try:
        index = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {_MEND}") from None
    except ValueError:
        raise UserError(f"{path}: not valid JSON; {_MEND}") from None
    if not isinstance(index, dict) or not Index.__required_keys__ <= index.keys():
        raise UserError(f"{path}: not the index of a cache; {_MEND}")
    return cast(Index, index)
