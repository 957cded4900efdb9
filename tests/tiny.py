"""A tiny base for encoding, which a process of its own can open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL

from lcm_lora.errors import UserError


@dataclass
class TinyBase:
    """What encoding asks of a base: a real autoencoder."""

    vae: Any
    name: str = "tiny"
    downsampling: int = 2


def make_tiny_base() -> TinyBase:
    """Return the base, the same one every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae: Any = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(4, 8),
            norm_num_groups=2,
            latent_channels=3,
            scaling_factor=0.7,
        )
    return TinyBase(vae.eval().requires_grad_(False))


def open_tiny(number: int) -> TinyBase:
    """Open it as a process of several does."""
    torch.set_num_threads(1)
    return make_tiny_base()


def open_nothing(number: int) -> TinyBase:
    """Fail to open it."""
    raise UserError(f"base.model tiny: cannot be loaded by process {number}")
