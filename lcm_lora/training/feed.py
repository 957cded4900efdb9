"""What a training consumes, made ahead of it by a thread of its own.

On a GPU that thread has a stream of its own too: there it waits for its copies, and nobody else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from lcm_lora.consistency.denoiser import Conditioning
from lcm_lora.consistency.step import Draws
from lcm_lora.data.threads import in_order

_AHEAD = 4
"""Micro-batches that are made before they are asked for."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A micro-batch on the device."""

    x0: Tensor
    """Clean scaled latents, float32 [B, C, h, w]."""
    conditioning: Conditioning
    draws: Draws

    def tensors(self) -> list[Tensor]:
        """Return all tensors of it."""
        draws = self.draws
        return [self.x0, *self.conditioning.values(), draws.index, draws.noise, draws.w]


@contextlib.contextmanager
def feed(
    make: Callable[[range], Batch], places: Iterable[range], device: torch.device
) -> Iterator[Iterator[Batch]]:
    """Yield an iterator over what `make` makes of each of `places`, in their order.

    What goes wrong in the thread is raised where its batch is asked for; the thread ends with the
    block.
    """
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def made(places: range) -> tuple[Batch, torch.Event | None]:
        with torch.cuda.stream(stream):  # without one, this does nothing
            return make(places), stream.record_event() if stream else None

    with ThreadPoolExecutor(1, "feed") as pool:
        yield (_handed_over(*pair) for pair in in_order(pool, made, places, _AHEAD))


def _handed_over(batch: Batch, ready: torch.Event | None) -> Batch:
    """Let the current stream use a batch of another one."""
    if ready is not None:
        current = torch.cuda.current_stream(batch.x0.device)
        current.wait_event(ready)
        for tensor in batch.tensors():
            tensor.record_stream(current)
    return batch


def on_its_way(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on `device`; nobody waits until it is there."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
