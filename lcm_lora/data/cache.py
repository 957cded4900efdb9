"""What the index of a cache of latents says.

Legend: C x h x w latents.
"""

from __future__ import annotations

from lcm_lora.data.shard import Shard
from lcm_lora.records import Record


class About(Record):
    """What the latents of a cache are like."""

    scaling_factor: float
    """Scaled latents are the moments' samples times this."""
    shape: tuple[int, int, int]
    """C, h, w of a latent."""


class CacheIndex(Record):
    """The encoded training samples, in the order of the shards."""

    about: About
    autoencoder: str
    """SHA-256 over the files of the autoencoder that made them."""
    samples: int
    shards: tuple[Shard, ...]
    shards_sha256: str
    """Of the index of the shards that were encoded."""
