"""The randomness of training, a pure function of the run's seed and a sample's place in the run.

A sample's place is its number in the endless sequence of samples that the run consumes. So draws do
not depend on the batch size, on the number of processes, or on where a run was resumed.

Of a seed of 63 bits torch's generator of the CPU keeps the low 32: of n samples about n^2 / 2^33
pairs draw the same, one among 100,000.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lcm_lora.consistency.step import Draws


@dataclass(frozen=True, slots=True)
class SampleDraws:
    """All that is drawn for a batch: `posterior` float32 [B, C, h, w] picks the latent itself."""

    posterior: Tensor
    step: Draws


def draw(
    seed: int,
    places: Sequence[int],
    shape: tuple[int, int, int],
    points: int,
    w: tuple[float, float],
) -> SampleDraws:
    """Draw for the samples at `places`.

    Args:
        seed: Of the run.
        places: Numbers of the samples in the run's sequence.
        shape: (C, h, w) of a latent.
        points: N of the solver's grid.
        w: Bounds of the guidance in the LCM paper's convention.
    """
    drawn = [_draw_one(seed, place, shape, points) for place in places]
    posterior, noise, index, share = (torch.stack(column) for column in zip(*drawn, strict=True))
    low, high = w
    guidance = low + (high - low) * share[:, None, None, None]
    return SampleDraws(posterior, Draws(index, noise, guidance))


def _draw_one(
    seed: int, place: int, shape: tuple[int, int, int], points: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    state = np.random.SeedSequence((seed, place)).generate_state(1, np.uint64)
    generator = torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
    return (
        torch.randn(shape, generator=generator),
        torch.randn(shape, generator=generator),
        torch.randint(points, (), generator=generator),
        torch.rand((), generator=generator),
    )
