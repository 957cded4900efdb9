"""Bring pictures to the size and the colours that a network wants, on the device.

Torch's bicubic filter with antialias is Pillow's in float, within 0.004 of 255 grey levels, so a
batch is scaled in one call where clean-fid scales picture by picture.

Legend: B pictures, H x W pixels, S pixels of a side that a network takes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lcm_lora.seeing.preparation import Preparation


def prepare(pictures: Tensor, how: Preparation) -> Tensor:
    """Return pictures as a network takes them, float32 [B, 3, S, S].

    Args:
        pictures: Colours 0..255, [B, 3, H, W].
        how: What the network wants.
    """
    return _coloured(_cropped(_scaled(pictures.float(), how), how.pixels), how)


def _scaled(pictures: Tensor, how: Preparation) -> Tensor:
    """Scale float [B, 3, H, W] in 0..255; pictures of the right size stay as they are."""
    size = _size(pictures.shape[-2], pictures.shape[-1], how)
    if tuple(pictures.shape[-2:]) == size:
        return pictures
    if not how.is_rounded:
        return _interpolated(pictures, size, how)
    # Pillow scales bytes by rows, then by columns, and rounds after each.
    across = _interpolated(pictures, (pictures.shape[-2], size[1]), how).round()
    return _interpolated(across, size, how).round()


def _interpolated(pictures: Tensor, size: tuple[int, int], how: Preparation) -> Tensor:
    scaled = F.interpolate(pictures, size, mode=how.filter, align_corners=False, antialias=True)
    return scaled.clamp(0, 255)


def _size(height: int, width: int, how: Preparation) -> tuple[int, int]:
    if how.shortest is None:
        return how.pixels, how.pixels
    shorter = min(height, width)
    return how.shortest * height // shorter, how.shortest * width // shorter


def _cropped(pictures: Tensor, side: int) -> Tensor:
    top, left = ((length - side) // 2 for length in pictures.shape[-2:])
    return pictures[..., top : top + side, left : left + side]


def _coloured(pictures: Tensor, how: Preparation) -> Tensor:
    if how.colours == "0..255":
        return pictures
    if how.colours == "-1..1":
        return pictures / 127.5 - 1
    mean, std = (torch.tensor(c, device=pictures.device).view(3, 1, 1) for c in (how.mean, how.std))
    return (pictures / 255 - mean) / std
