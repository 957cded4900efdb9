"""Decode every picture once, and let all networks see it.

Pictures are decoded in threads, go to the device as bytes, and are scaled there for each network.

Legend: B pictures, H x W pixels, N pictures in all.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lcm_lora.errors import UserError

BATCH = 64
"""Pictures that networks look at together."""

Pixels = NDArray[np.uint8]
Viewer = Callable[[Tensor, slice], Tensor]
"""Takes pictures, float32 [B, 3, H, W] in 0..255, and their places; returns rows [B, ...]."""


def look(
    pictures: Iterable[Pixels],
    viewers: Mapping[str, Viewer],
    device: torch.device,
    first: int = 0,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, NDArray[np.float32]]:
    """Return what each viewer says of every picture, float32 [N, ...], by the viewer's name.

    Args:
        pictures: N, uint8 [H, W, 3], all of one size.
        viewers: The networks.
        device: Of torch.
        first: The place of the first picture in its set.
        advance: Told of every batch.

    Raises:
        UserError: Pictures differ in size, or a network fails.
    """
    rows: dict[str, list[NDArray[np.float32]]] = {name: [] for name in viewers}
    for batch in _batches(pictures):
        places = slice(first, first + len(batch))
        tensor = _on_device(batch, device)
        with exactly():  # and not around the batches: they may be painted meanwhile
            for name, view in viewers.items():
                rows[name].append(view(tensor, places).float().cpu().numpy())
        first = places.stop
        advance(len(batch))
    return {name: np.concatenate(parts) for name, parts in rows.items()}


@contextlib.contextmanager
def exactly() -> Iterator[None]:
    """Compute without TF32, which would cost a third of the digits for work that takes no time."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _batches(pictures: Iterable[Pixels]) -> Iterator[list[Pixels]]:
    remaining = iter(pictures)
    while batch := list(itertools.islice(remaining, BATCH)):
        yield batch


def _on_device(batch: list[Pixels], device: torch.device) -> Tensor:
    sizes = {picture.shape[:2] for picture in batch}
    if len(sizes) > 1:
        (a, b), (c, d), *_ = sorted(sizes)
        raise UserError(f"pictures of {b} x {a} and {d} x {c} pixels are in one set; make it anew")
    stacked = torch.from_numpy(np.stack(batch)).to(device)
    planes = stacked.permute(0, 3, 1, 2)
    return planes.to(torch.float32, memory_format=torch.contiguous_format)
