"""Several processes that train one adapter together, and what they must agree on.

No wrapper around the network, as DDP is one: an adapter's gradients are small, so one sum a step
costs next to nothing, and its order does not depend on which layer was ready first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which process this is, and of how many; alone if nothing is said."""

    number: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes and reports."""
        return self.number == 0

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace float32 tensors by their sums over all processes; costs as much memory again."""
        if self.count == 1:
            return
        together = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(together)
        parts = together.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def of_main(self, number: int, device: torch.device) -> int:
        """Return the number that the main process gives; the others wait for it."""
        told = torch.tensor(number, device=device)
        if self.count > 1:
            dist.broadcast(told, 0)
        return int(told)


def share(whole: range, count: int, number: int) -> range:
    """Return part `number` of `count` parts, which differ by one in length at most."""
    start, stop = (len(whole) * n // count for n in (number, number + 1))
    return whole[start:stop]
