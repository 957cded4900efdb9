"""The pieces of a stage: in the working folder, and in the store that machines share."""

from __future__ import annotations

from lcm_lora import layout
from lcm_lora.hashes import Hashes
from lcm_lora.pieces import Pieces
from lcm_lora.store import shared_store

_FOLDER = "pieces"


def open_pieces(stage: str, hashes: Hashes) -> Pieces:
    """Open the pieces that are kept for `stage`, before anything heavy loads.

    Raises:
        UserError: The environment names a shared store, and it cannot be written.
    """
    shared = shared_store()
    if shared is not None:
        shared.check()
        shared = shared.at(f"{_FOLDER}/{stage}")
    return Pieces(layout.CHECKPOINTS / stage, hashes, shared)
