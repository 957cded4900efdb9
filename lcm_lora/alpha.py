"""Alpha as files of adapters hold it: a scalar beside the factors."""

from __future__ import annotations

import torch
from torch import Tensor


def alpha_tensor(value: float, dtype: torch.dtype) -> Tensor:
    """Return a scalar of that dtype, or fp32 where that would change it: bf16 has no 257."""
    lowered = torch.tensor(float(value), dtype=dtype)
    return lowered if float(lowered) == value else torch.tensor(float(value))
