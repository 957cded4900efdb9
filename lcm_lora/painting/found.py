"""What the first look finds of the painters that name a base or adapters of their own."""

from __future__ import annotations

from lcm_lora.families.found import BaseInventory
from lcm_lora.records import Record


class AdapterFound(Record):
    """An adapter that a painter names: where from, the SHA-256 of its weights, and its weight."""

    name: str
    """As the parameters name it: a file, a folder or a hub id."""
    commit: str | None
    """Of a hub id."""
    sha256: str
    weight: float


class PainterInventory(Record):
    """What a painter names beside `base.model` and the new adapter."""

    base: BaseInventory | None
    adapters: tuple[AdapterFound, ...]
