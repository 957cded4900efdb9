"""Training shards to latent moments."""

from __future__ import annotations

import functools

from lcm_lora import layout
from lcm_lora.data.shard import INDEX, ShardIndex
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base import read_base
from lcm_lora.params.encode import Encode
from lcm_lora.params.hardware import Hardware
from lcm_lora.params.reading import load_section
from lcm_lora.pieces import Pieces
from lcm_lora.records import read_record


def run() -> None:
    """Run the stage in the working folder; what is missing is said before anything heavy loads."""
    params = load_section(layout.PARAMS, Encode)
    hardware = load_section(layout.PARAMS, Hardware)
    read_record(layout.SHARDS / INDEX, ShardIndex, "run `lcm-lora prepare`")
    with Hashes(layout.HASHES) as hashes:
        found = read_base(layout.INVENTORY / "base.json", hashes)
        from lcm_lora.autoencoder import load_autoencoder
        from lcm_lora.data.encode import Job, encode, how_latents_are_made

        job = Job(
            params,
            layout.SHARDS,
            Pieces(layout.CHECKPOINTS / "encode", hashes),
            layout.CHECKPOINTS / "encode.sqlite",
            how_latents_are_made(params, hardware, found.part_sha256("vae")),
            functools.partial(load_autoencoder, found, hardware),
        )
        encode(job, layout.CACHE, layout.LEDGERS / "encode.json")
