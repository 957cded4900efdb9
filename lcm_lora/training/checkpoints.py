"""Where a training keeps its state, so that it goes on after a kill, on another machine too."""

from __future__ import annotations

from lcm_lora.params.distill import Distill
from lcm_lora.store import Store, open_store, shared_store

_FOLDER = "checkpoints"


def kept_elsewhere(params: Distill) -> Store | None:
    """Open the place of the checkpoints: as the parameters say, or in the store of all machines.

    Returns:
        None where neither is named, and checkpoints stay in the working folder.

    Raises:
        UserError: There is no such file system.
    """
    if params.checkpoints is not None:
        return open_store(params.checkpoints, "distill.checkpoints")
    shared = shared_store()
    return shared.at(_FOLDER) if shared else None
