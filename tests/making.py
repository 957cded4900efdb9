"""Make the data of a small project as its stages do, in a folder of a test's own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lcm_lora.autoencoder import load_autoencoder
from lcm_lora.bases import Base, load_base
from lcm_lora.candidates import candidate_name
from lcm_lora.data.encode import Job, encode, encode_share, how_latents_are_made
from lcm_lora.data.prepare import Places, prepare
from lcm_lora.data.unit_shards import Store
from lcm_lora.families.found import BaseInventory
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base import look_at_base
from lcm_lora.inventory.source import look_at_source
from lcm_lora.params.base import Base as BaseParams
from lcm_lora.params.distill import Distill, Guidance
from lcm_lora.params.encode import Encode
from lcm_lora.params.evaluation import Evaluation
from lcm_lora.params.hardware import Hardware
from lcm_lora.params.prepare import Prepare
from lcm_lora.params.sources import Source
from lcm_lora.pieces import Pieces
from lcm_lora.store import Store as Shared
from lcm_lora.training.distill import Job as TrainingJob
from lcm_lora.training.distill import distill
from lcm_lora.training.origin import Origin

CPU = Hardware(device="cpu", precision="fp32", threads=1)


def places(folder: Path) -> Places:
    """Return the places of `prepare` in a project's folder."""
    data = folder / "data"
    return Places(
        shards=data / "shards",
        evaluation=data / "evaluation",
        selection=data / "selection",
        prepared=data / "prepared.json",
        ledger=data / "ledgers" / "prepare.json",
    )


def make_data(
    folder: Path,
    source: Source,
    prompts: int = 4,
    chosen: int = 1,
    own: Source | None = None,
    shared: Shared | None = None,
    **params: Any,
) -> Path:
    """Look at a source and prepare it; return the project's folder."""
    wanted = Prepare(source=source, **params)
    evaluation = Evaluation(source=own, prompts=prompts, selection=chosen)
    with Hashes(folder / ".checkpoints" / "hashes.sqlite") as hashes:
        pieces = Pieces(
            folder / ".checkpoints" / "prepare", hashes, shared.at("prepare") if shared else None
        )
        found = look_at_source(source, hashes, None)
        fixed = look_at_source(own, hashes, None) if own else None
        store = Store(pieces, folder / ".checkpoints" / "prepare.sqlite", hashes)
        prepare(wanted, evaluation, found, fixed, store, places(folder))
    return folder


def shapes_base() -> Base:
    """Return the shapes base, fresh."""
    return load_base(shapes_inventory(), CPU)


@functools.cache
def shapes_inventory() -> BaseInventory:
    """Return what the first look says of the shapes base."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder, Hashes(Path(folder) / "hashes") as hashes:
        return look_at_base(BaseParams(), hashes)


def make_adapter(
    home: Path, cache: Path, base: Base | None = None, hardware: Hardware = CPU, **params: Any
) -> Path:
    """Distil a base, the shapes base if none is given, in `home`; return the last candidate."""
    guidance = Guidance(convention="imagen", low=3, high=3)
    origin = Origin(git_commit="0" * 40, git_dirty=False, code_sha256="c" * 64)
    wanted = Distill(**{"batch": 8, "guidance": guidance} | params)
    candidates, training = home / "candidates", home / "training"
    with Hashes(home / "hashes.sqlite") as hashes:
        training_job = TrainingJob(
            wanted,
            hardware,
            lambda number: base or shapes_base(),
            cache,
            hashes,
            home / "checkpoints",
            candidates,
            training,
            origin,
        )
        distill(training_job)
    return candidates / candidate_name(wanted.steps)


def make_cache(
    folder: Path,
    open_autoencoder: Callable[[int], Any] = lambda n: load_autoencoder(shapes_inventory(), CPU),
    autoencoder: str | None = None,
    hardware: Hardware = CPU,
    shared: Shared | None = None,
    share: tuple[int, int] | None = None,
    **params: Any,
) -> Path:
    """Encode the shards of a project's folder, or a share of them; return the cache."""
    out = folder / "data" / "cache"
    with Hashes(folder / ".checkpoints" / "hashes.sqlite") as hashes:
        pieces = Pieces(
            folder / ".checkpoints" / "encode", hashes, shared.at("encode") if shared else None
        )
        encode_params = Encode(**params)
        job = Job(
            encode_params,
            folder / "data" / "shards",
            pieces,
            folder / ".checkpoints" / "encode.sqlite",
            how_latents_are_made(
                encode_params, hardware, autoencoder or shapes_inventory().part_sha256("vae")
            ),
            open_autoencoder,
        )
        if share is None:
            encode(job, out, folder / "data" / "ledgers" / "encode.json")
        else:
            encode_share(job, *share)
    return out
