"""Training shards to latent moments; or a share of them, where several machines encode."""

from __future__ import annotations

import functools
import re

from lcm_lora import layout
from lcm_lora.data.shard import INDEX, ShardIndex
from lcm_lora.errors import UserError
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base import read_base
from lcm_lora.params.encode import Encode
from lcm_lora.params.hardware import Hardware
from lcm_lora.params.reading import load_section
from lcm_lora.records import read_record
from lcm_lora.stages.pieces import open_pieces
from lcm_lora.store import ENVIRONMENT, shared_store


def run(share: str | None = None) -> None:
    """Run the stage in the working folder; what is missing is said before anything heavy loads.

    Args:
        share: As `2/4`, the second of four machines: make only its share of what is missing, for
            all to find in the store that they share, and write no output.
    """
    shared = _share(share) if share is not None else None
    params = load_section(layout.PARAMS, Encode)
    hardware = load_section(layout.PARAMS, Hardware)
    read_record(layout.SHARDS / INDEX, ShardIndex, "run `lcm-lora prepare`")
    with Hashes(layout.HASHES) as hashes:
        pieces = open_pieces("encode", hashes)
        found = read_base(layout.INVENTORY / "base.json", hashes)
        from lcm_lora.autoencoder import load_autoencoder
        from lcm_lora.data.encode import Job, encode, encode_share, how_latents_are_made

        job = Job(
            params,
            layout.SHARDS,
            pieces,
            layout.CHECKPOINTS / "encode.sqlite",
            how_latents_are_made(params, hardware, found.part_sha256("vae")),
            functools.partial(load_autoencoder, found, hardware),
        )
        if shared is None:
            encode(job, layout.CACHE, layout.LEDGERS / "encode.json")
        else:
            encode_share(job, *shared)


def _share(text: str) -> tuple[int, int]:
    """Return which share, from 1, and of how many.

    Raises:
        UserError: It is none, or nobody would find what is made.
    """
    numbers = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text, re.ASCII)
    number, count = map(int, numbers.groups()) if numbers else (0, 0)
    if not 1 <= number <= count:
        raise UserError(f"--share {text}: no share; write it as 2/4, the second of four")
    if shared_store() is None:
        raise UserError(
            f"--share {text}: no other machine would find what is made; name the store that they "
            f"share in {ENVIRONMENT}"
        )
    return number, count
