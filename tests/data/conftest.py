"""Real photographs in pieces, and a tiny autoencoder, for the tests of the data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor

from lcm_lora.data.prepare import prepare
from lcm_lora.params import Prepare, ShapesSource


@pytest.fixture(scope="session")
def photographs() -> list[Image.Image]:
    """Forty-eight different pieces, 80 x 60 pixels, of two photographs."""
    china, flower = (Image.fromarray(picture) for picture in load_sample_images().images)
    return [
        photograph.crop((x, y, x + 80, y + 60))
        for photograph in (china, flower)
        for x in range(0, 480, 80)
        for y in range(0, 240, 60)
    ]


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared scenes, 16 x 16 pixels, in shards of eight. Read only."""
    out = tmp_path_factory.mktemp("prepared") / "shards"
    source = ShapesSource(count=40, seed=3)
    prepare(Prepare(source=source, resolution=16, min_side=16, held_out=0.3, shard_samples=8), out)
    return out


@dataclass
class TinyBase:
    """What encoding asks of a base: a real autoencoder, and embeddings that hash the captions."""

    kind: str
    vae: Any
    name: str = "tiny"
    downsampling: int = 2
    dtype: torch.dtype = torch.float32
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def embed(self, captions: list[str]) -> dict[str, Tensor]:
        """Return 3 tokens of width 4, and for SDXL a pooled width of 5."""
        seeds = [hashlib.sha256(caption.encode()).digest() for caption in captions]
        noise = np.stack([np.random.default_rng(list(seed)).normal(size=17) for seed in seeds])
        values = torch.from_numpy(noise).to(self.dtype)
        embeddings = {"prompt_embeds": values[:, :12].reshape(-1, 3, 4)}
        return embeddings | ({"pooled": values[:, 12:]} if self.kind == "sdxl" else {})

    def embed_empty(self) -> dict[str, Tensor]:
        """Return the embedding of no caption."""
        return self.embed([""])


@pytest.fixture(scope="session")
def tiny_base() -> Callable[[str], TinyBase]:
    """Return a function that makes a base of a kind, the same one every time."""

    def make(kind: str) -> TinyBase:
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
        return TinyBase(kind, vae.eval().requires_grad_(False))

    return make
