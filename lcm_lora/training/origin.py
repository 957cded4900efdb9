"""Who made an adapter: the commit, and whether the tree was as the commit says."""

from __future__ import annotations

from lcm_lora.records import Record

ORIGIN = "origin.json"


class Origin(Record):
    """What made the weights of an adapter."""

    git_commit: str
    git_dirty: bool
    code_sha256: str
