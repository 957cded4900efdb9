"""Turn the training shards into latent moments, once and for all steps.

Moments rather than samples are kept, so that training still draws from the posterior; in half
precision, which rounds by a two-thousandth. Captions stay text: embedding them on the fly costs a
few thousandths of a training step, and spares 118 GB (SD) or 318 GB (SDXL) a million. What comes of
a shard is a piece, made once, by whichever process takes it.

Legend: N samples of a shard, C x h x w latents, B pictures of a pass, H = W pixels.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lcm_lora.code import code_sha256, versions
from lcm_lora.data.cache import About, CacheIndex
from lcm_lora.data.latent_file import LatentFile
from lcm_lora.data.shard import INDEX, Shard, ShardIndex
from lcm_lora.data.shards import ShardSample, read_shard
from lcm_lora.data.texts import packed
from lcm_lora.device import pick_device
from lcm_lora.errors import UserError
from lcm_lora.files import new_folder, sha256, write_tensors
from lcm_lora.locks import hold, locked
from lcm_lora.params.encode import Encode
from lcm_lora.params.hardware import Hardware
from lcm_lora.parts import Part, Parts
from lcm_lora.pieces import Pieces, content_name, key_of
from lcm_lora.processes import die_with_parent
from lcm_lora.progress import Advance, progress
from lcm_lora.records import read_record, write_record

if TYPE_CHECKING:
    from lcm_lora.autoencoder import Autoencoder

LATENTS, ABOUT = "latents.safetensors", "about.json"

_ANOTHER = "another encoding in this folder to end"


@dataclass(frozen=True, slots=True)
class Job:
    """All that a process needs to encode shards: what, with which autoencoder, and where to."""

    params: Encode
    shards: Path
    pieces: Pieces
    parts: Path
    how: dict[str, Any]
    """All that decides a latent, besides its picture."""
    open_autoencoder: Callable[[int], Autoencoder]
    """Loads the autoencoder for the process of a number, from 0."""


def how_latents_are_made(
    params: Encode, hardware: Hardware, autoencoder_sha256: str
) -> dict[str, Any]:
    """Return all that decides a latent, besides its picture."""
    return {
        "autoencoder": autoencoder_sha256,
        "batch": params.batch,
        "device": pick_device(hardware).type,
        "threads": hardware.threads,
        "code": code_sha256(__name__),
        "versions": versions(),
    }


def encode(job: Job, out: Path, ledger: Path) -> None:
    """Write the cache of the training shards to the folder `out`; only new shards are encoded.

    Of two at once with the same pieces the second waits: each removes what it does not need itself.

    Args:
        job: What is encoded, and how.
        out: Folder to write.
        ledger: File to write, from which another machine goes on.

    Raises:
        UserError: The shards are missing or broken, their resolution does not suit the base, or a
            latent is not finite.
    """
    with locked(_lock(job), _ANOTHER):
        index, keys = _index(job)
        wanted = dict(zip(keys, index.shards, strict=True))
        job.pieces.fetch(keys)
        missing = {key: shard for key, shard in wanted.items() if not job.pieces.find(key)}
        _make(job, "encode", wanted, missing)
        with new_folder(out) as folder:
            made = job.pieces.put(keys, folder)
            cached = [
                Shard(
                    file=content_name(made.pieces[key][LATENTS], LATENTS),
                    samples=shard.samples,
                    sha256=made.pieces[key][LATENTS],
                )
                for key, shard in zip(keys, index.shards, strict=True)
            ]
            about = read_record(job.pieces.path(keys[0]) / ABOUT, About, "remove it")
            write_record(
                folder / INDEX,
                CacheIndex(
                    about=about,
                    autoencoder=job.how["autoencoder"],
                    samples=index.samples,
                    shards=tuple(cached),
                    shards_sha256=sha256(job.shards / INDEX),
                ),
            )
        write_record(ledger, made)
        _keep_only(job, keys)


def encode_share(job: Job, number: int, count: int) -> None:
    """Encode a share of the new shards for the machine that encodes all, and write no output.

    Which shards a share has does not depend on what is there already: no machine waits for another.
    Nor do shares in one folder; but who encodes all of it is alone there.

    Args:
        job: What is encoded, and how; its pieces are shared.
        number: Which share, from 1.
        count: Of how many.

    Raises:
        UserError: As `encode` does.
    """
    index, keys = _index(job)
    wanted = dict(zip(keys[number - 1 :: count], index.shards[number - 1 :: count], strict=True))
    with locked(_lock(job), _ANOTHER, shared=True):
        missing = {key: shard for key, shard in wanted.items() if not job.pieces.is_shared(key)}
        _make(job, f"encode {number}/{count}", wanted, missing)
    alone = hold(_lock(job))
    if alone is not None:  # else whoever is still at work clears up
        _keep_only(job, keys)
        os.close(alone)


def _lock(job: Job) -> Path:
    return job.parts.with_suffix(".lock")


def _index(job: Job) -> tuple[ShardIndex, list[str]]:
    """Return the index of the shards, and the name of each one's piece."""
    index = read_record(job.shards / INDEX, ShardIndex, "run `lcm-lora prepare`")
    return index, [key_of(shard=shard.sha256, **job.how) for shard in index.shards]


def _keep_only(job: Job, keys: list[str]) -> None:
    """Remove what no shard needs any more."""
    job.pieces.keep_only(keys)
    with Parts(job.parts, job.pieces) as parts:
        parts.keep_only(keys)


def _make(job: Job, name: str, wanted: dict[str, Shard], missing: dict[str, Shard]) -> None:
    """Make the missing pieces of those that are wanted."""
    total, new = (sum(shard.samples for shard in some.values()) for some in (wanted, missing))
    with progress(name, total, "pictures", total - new) as advance:
        _encode_all(job, missing, advance)


def _encode_all(job: Job, missing: dict[str, Shard], advance: Advance) -> None:
    """Make the missing pieces, in this process or shared by several."""
    processes = job.params.processes or max(1, torch.cuda.device_count())
    processes = min(processes, len(missing))
    if processes <= 1:
        autoencoder = job.open_autoencoder(0) if missing else None
        for key, shard in missing.items():
            _encode_shard(job, autoencoder, key, shard, advance)
        return
    context = get_context("spawn")
    numbers = context.SimpleQueue()
    for number in range(processes):
        numbers.put(number)
    arguments = (job, numbers, os.getpid())
    with ProcessPoolExecutor(processes, context, _start, arguments) as pool:
        for samples in pool.map(_encode_one, missing.keys(), missing.values()):
            advance(samples)


_here: tuple[Job, int]
"""Of a process of the pool: its job, and its number among them."""


def _start(job: Job, numbers: SimpleQueue[int], parent: int) -> None:
    global _here
    die_with_parent(parent)
    _here = job, numbers.get()


@functools.cache
def _autoencoder() -> Any:
    """Return this process's autoencoder.

    An error here reaches the parent, as in `_start` it would not.
    """
    job, number = _here
    return job.open_autoencoder(number)


def _encode_one(key: str, shard: Shard) -> int:
    _encode_shard(_here[0], _autoencoder(), key, shard, lambda *_: None)
    return shard.samples


def _encode_shard(job: Job, autoencoder: Any, key: str, shard: Shard, advance: Advance) -> None:
    """Make the piece of one shard, unless another machine has made it meanwhile."""
    if job.pieces.find(key):
        advance(shard.samples)
        return
    samples = list(read_shard(job.shards, shard))
    with Parts(job.parts, job.pieces, **job.how) as parts:
        hashes = [hashlib.sha256(sample.content).hexdigest() for sample in samples]
        known = {row: part for row, sha in enumerate(hashes) if (part := parts.find(sha))}
        tensors = _tensors(job.params.batch, autoencoder, samples, known, advance)
        _, channels, height, width = tensors["mean"].shape
        about = About(
            scaling_factor=autoencoder.vae.config.scaling_factor,
            shape=(channels, height, width),
        )
        with job.pieces.make(key) as made:
            write_tensors(made / LATENTS, tensors)
            write_record(made / ABOUT, about)
        parts.keep(key, {sha: row for row, sha in enumerate(hashes)})


def _tensors(
    batch: int,
    autoencoder: Autoencoder,
    samples: Sequence[ShardSample],
    known: Mapping[int, Part],
    advance: Advance,
) -> dict[str, Tensor]:
    """Return the tensors of one shard.

    `mean` and `std` are float16 [N, C, h, w]; `time_ids` int32 [N, 6], the sizes that SDXL is told;
    `captions` uint8 and `ends` int64 [N] hold the texts.
    """
    found = {row: _known(part) for row, part in known.items()}
    advance(len(found))
    new = [row for row in range(len(samples)) if row not in found]
    for start in range(0, len(new), batch):
        rows = new[start : start + batch]
        found |= _encoded(autoencoder, {row: samples[row] for row in rows}, batch)
        advance(len(rows))
    means, stds = zip(*(found[row] for row in range(len(samples))), strict=True)
    side = means[0].shape[-1] * autoencoder.downsampling
    captions, ends = packed([sample.caption for sample in samples])
    return {
        "mean": torch.stack(means),
        "std": torch.stack(stds),
        "time_ids": torch.tensor(
            [_time_ids(sample, side) for sample in samples], dtype=torch.int32
        ),
        "captions": captions,
        "ends": ends,
    }


def _known(part: Part) -> tuple[Tensor, Tensor]:
    """Return the moments that an earlier piece holds in a row, float16 [C, h, w]."""
    row = LatentFile(part.piece / LATENTS).sample(part.place)
    mean, std = (torch.from_numpy(row[name].copy()) for name in ("mean", "std"))
    return mean, std


def _encoded(
    autoencoder: Autoencoder, samples: Mapping[int, ShardSample], batch: int
) -> dict[int, tuple[Tensor, Tensor]]:
    """Return the moments of at most `batch` samples by their keys, float16 [C, h, w]."""
    pictures = np.stack([sample.picture for sample in samples.values()])
    _check_resolution(pictures.shape[1], autoencoder)
    # How a CPU rounds depends on how many pictures there are, on some processors for any number; so
    # there always are equally many, and a picture's latent does not depend on its neighbours.
    missing = batch - len(pictures) if autoencoder.vae.device.type == "cpu" else 0
    filled = np.concatenate([pictures, np.repeat(pictures[-1:], missing, axis=0)])
    mean, std = (moment.half()[: len(samples)] for moment in moments(autoencoder.vae, filled))
    _check_finite(mean, std, list(samples.values()), autoencoder)
    return dict(zip(samples, zip(mean, std, strict=True), strict=True))


@torch.inference_mode()
def moments(vae: Any, pictures: np.ndarray[Any, np.dtype[np.uint8]]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation, float32 [B, C, h, w] on the CPU and not yet scaled.

    Args:
        vae: A diffusers autoencoder in float32.
        pictures: uint8 [B, H, W, 3].
    """
    pixels = torch.from_numpy(pictures).to(vae.device).permute(0, 3, 1, 2)
    posterior = vae.encode(pixels.float() / 127.5 - 1).latent_dist
    return posterior.mean.contiguous().cpu(), posterior.std.contiguous().cpu()


def _time_ids(sample: ShardSample, side: int) -> list[int]:
    """Return SDXL's sizes: height and width, top and left of the crop, target height and width."""
    return [*sample.record.original_size, *sample.record.crop_top_left, side, side]


def _check_resolution(resolution: int, autoencoder: Autoencoder) -> None:
    if resolution % autoencoder.downsampling:
        raise UserError(
            f"prepare.resolution {resolution}: not a multiple of {autoencoder.downsampling}, the"
            f" downsampling of base.model {autoencoder.name}; change it and run `lcm-lora"
            " prepare`"
        )


def _check_finite(
    mean: Tensor, std: Tensor, samples: list[ShardSample], autoencoder: Autoencoder
) -> None:
    finite = mean.isfinite().flatten(1).all(1) & std.isfinite().flatten(1).all(1)
    for sample, is_finite in zip(samples, finite, strict=True):
        if not is_finite:
            raise UserError(
                f"sample {sample.key} ({sample.record.source}): its latent is not finite; take the"
                " picture out of the source, or mend the autoencoder of base.model "
                f"{autoencoder.name}"
            )
