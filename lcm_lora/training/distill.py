"""Distil with as many processes as there are GPUs; heavy imports are left to those processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lcm_lora.data.batches import LatentCache
from lcm_lora.data.shard import INDEX
from lcm_lora.files import sha256
from lcm_lora.hashes import Hashes
from lcm_lora.locks import locked
from lcm_lora.params.distill import Distill
from lcm_lora.params.hardware import Hardware
from lcm_lora.recipe import RecipeData
from lcm_lora.training.checkpoints import kept_elsewhere
from lcm_lora.training.launch import joined, launch
from lcm_lora.training.origin import Origin
from lcm_lora.training.ranks import Ranks
from lcm_lora.training.sharing import processes

if TYPE_CHECKING:
    from lcm_lora.bases import Base


@dataclass(frozen=True, slots=True)
class Job:
    """All that a process needs to distil: what, with which base, and where to."""

    params: Distill
    hardware: Hardware
    open_base: Callable[[int], Base]
    """Loads the base for the process of a number, from 0."""
    cache: Path
    hashes: Hashes
    checkpoints: Path
    candidates: Path
    training: Path
    origin: Origin


def distill(job: Job) -> None:
    """Distil a base on cached latents, with all GPUs or as many processes as the parameters say.

    Writes the folders `candidates` and `training`. Each candidate is a whole adapter, and a
    function of what went in; who made them, `origin`, lies beside the curve. Of two at once in a
    folder the second waits, and goes on where the first has ended. On two machines that share a
    store of checkpoints neither does: each makes all steps, and what one replaced while the other
    wrote it is known by its hash and passed over.

    Raises:
        UserError: As `train` does, or there are not as many GPUs as wanted.
    """
    count = processes(job.params, job.hardware)
    if elsewhere := kept_elsewhere(job.params):
        elsewhere.check()
    with locked(job.checkpoints.with_suffix(".lock"), "another training in this folder to end"):
        if count == 1:
            work(Ranks(), job)
        else:
            LatentCache(job.cache, job.hashes)  # each file is hashed once, not by each process
            launch(count, work, job)


def work(ranks: Ranks, job: Job) -> None:
    """Be one of the processes that distil."""
    from lcm_lora.training.loop import train
    from lcm_lora.training.outputs import write_candidates, write_training

    base = job.open_base(ranks.number)
    latents, cache_sha256 = LatentCache(job.cache, job.hashes), sha256(job.cache / INDEX)
    with joined(ranks, base.device):
        state, store = train(
            job.params,
            job.hardware,
            base,
            latents,
            cache_sha256,
            job.checkpoints,
            job.origin,
            ranks,
        )
    if ranks.is_main:
        data = RecipeData(
            shards_sha256=latents.index.shards_sha256,
            cache_sha256=cache_sha256,
            samples=len(latents),
        )
        write_training(state, job.training)
        write_candidates(job.params, job.hardware, base, state, store, data, job.candidates)
