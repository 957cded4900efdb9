"""How shards become latents."""

from __future__ import annotations

from pydantic import Field

from lcm_lora.params.section import Section


class Encode(Section):
    """Training shards to latent moments."""

    batch: int = Field(64, ge=1, le=65536)
    """Pictures of one pass of the autoencoder."""
    processes: int | None = Field(None, ge=1, le=1024)
    """Processes that share the shards; null is one for each GPU, or one."""
