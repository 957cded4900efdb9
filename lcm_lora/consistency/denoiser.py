"""What the mathematics asks of a network."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Conditioning = dict[str, Tensor]
"""What a denoiser is told besides z and t; every tensor has B rows."""

Denoiser = Callable[[Tensor, Tensor, Conditioning], Tensor]
"""From z float32 [B, C, h, w], t int64 [B] and conditioning to the output, shaped as z."""
