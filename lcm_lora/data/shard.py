"""What an index says of one shard, be it of pictures or of latents."""

from __future__ import annotations

from lcm_lora.records import Record

INDEX = "index.json"


class Shard(Record):
    """One shard: its file beside the index that lists it."""

    file: str
    samples: int
    sha256: str


class ShardIndex(Record):
    """The training shards, in the order of their samples."""

    resolution: int
    samples: int
    shards: tuple[Shard, ...]
