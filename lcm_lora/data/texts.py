"""Texts as tensors, so that captions lie beside the latents that they belong to.

Legend: N texts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def packed(texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return the UTF-8 of all texts, uint8 [bytes], and where each ends, int64 [N]."""
    contents = [text.encode() for text in texts]
    ends = torch.tensor([len(content) for content in contents], dtype=torch.int64).cumsum(0)
    return torch.frombuffer(bytearray(b"".join(contents)), dtype=torch.uint8), ends
