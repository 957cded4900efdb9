"""Cached latents to a LoRA adapter; run it again after a kill and it goes on."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from lcm_lora import layout
from lcm_lora.code import code_sha256
from lcm_lora.commit import working_commit
from lcm_lora.data.cache import CacheIndex
from lcm_lora.data.shard import INDEX
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base import read_base
from lcm_lora.params.distill import Distill
from lcm_lora.params.hardware import Hardware
from lcm_lora.params.reading import load_section
from lcm_lora.records import read_record
from lcm_lora.training.origin import Origin

if TYPE_CHECKING:
    from lcm_lora.bases import Base
    from lcm_lora.families.found import BaseInventory


def run() -> None:
    """Run the stage in the working folder; what is missing is said before anything heavy loads."""
    params = load_section(layout.PARAMS, Distill)
    hardware = load_section(layout.PARAMS, Hardware)
    read_record(layout.CACHE / INDEX, CacheIndex, "run `lcm-lora encode`")
    with Hashes(layout.HASHES) as hashes:
        found = read_base(layout.INVENTORY / "base.json", hashes)
        from lcm_lora.training.distill import Job, distill

        job = Job(
            params,
            hardware,
            functools.partial(_open_base, found, hardware),
            layout.CACHE,
            hashes,
            layout.CHECKPOINTS / "distill",
            layout.CANDIDATES,
            layout.TRAINING,
            _origin(),
        )
        distill(job)


def _open_base(found: BaseInventory, hardware: Hardware, number: int) -> Base:
    """Load the base; its heavy imports are spared the process that only starts others."""
    from lcm_lora.bases import load_base

    return load_base(found, hardware, number)


def _origin() -> Origin:
    commit, dirty = working_commit(Path())
    return Origin(git_commit=commit, git_dirty=dirty, code_sha256=code_sha256(__name__))
