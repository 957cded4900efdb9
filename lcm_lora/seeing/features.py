"""Turn image sets into what all metrics are computed from; pictures are not looked at again.

What has been seen is kept in chunks by all that decides it, so that a killed run goes on within a
set, and the same pictures are not looked at twice, whoever made them.

Legend: N pictures, D dimensions.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from lcm_lora.code import code_sha256, versions
from lcm_lora.data.threads import in_order
from lcm_lora.device import decides
from lcm_lora.files import new_folder, sha256, write_tensors
from lcm_lora.hashes import Hashes
from lcm_lora.params.score import Score
from lcm_lora.pieces import Pieces, key_of
from lcm_lora.progress import Advance, progress
from lcm_lora.records import write_record
from lcm_lora.seeing.attributes import attributes_of_captions
from lcm_lora.seeing.image_sets import ImageSet, captions_sha256
from lcm_lora.seeing.looking import BATCH, Pixels, look
from lcm_lora.seeing.network_files import Networks
from lcm_lora.seeing.plugins import measure_with, plugin_records
from lcm_lora.seeing.set_records import FeatureRecord, NetworkRecord
from lcm_lora.seeing.viewers import Viewers

CHUNK = 8 * BATCH
"""Pictures that are kept together, so that a killed run loses no more."""

_ARRAYS = "arrays.safetensors"
_SUMS = "sha256"
"""Beside the arrays of a chunk: of each decoded picture, uint8 [N, 32]."""

Arrays = dict[str, NDArray[Any]]


@dataclass
class Job:
    """What looks at image sets, where it computes, and what it has seen before."""

    score: Score
    networks: Networks
    device: torch.device
    pieces: Pieces
    """What was seen before."""
    hashes: Hashes

    @cached_property
    def viewers(self) -> Viewers:
        """The networks; none is loaded before a picture is there to be seen."""
        return Viewers(self.networks, self.device)

    @cached_property
    def seen_by(self) -> dict[str, NetworkRecord]:
        """Who makes each array from pictures."""
        files = {f"features/{name}": file for name, file in self.networks.features.items()}
        files["clip"] = self.networks.clip
        if self.networks.attributes is not None:
            files |= dict.fromkeys(self.networks.judged, self.networks.attributes)
        return {name: file.record for name, file in files.items()}

    @cached_property
    def plugins(self) -> dict[str, NetworkRecord]:
        """Who measures with a command of its own."""
        return plugin_records(self.score.plugins, self.hashes)

    @cached_property
    def how(self) -> dict[str, Any]:
        """What decides all arrays, besides who makes them."""
        return {"code": code_sha256(__name__), "versions": versions(), **decides(self.device)}


def features(job: Job, name: str, sets: list[ImageSet], out: Path) -> None:
    """Write features and per-picture scores of the image sets of `name` into the folder `out`.

    Args:
        job: Who looks.
        name: A painter, or `real`.
        sets: What is looked at.
        out: Folder to write.

    Raises:
        UserError: An image set, a network or a plug-in is missing or wrong, or captions are not of
            the shapes world although score.attributes asks for them.
    """
    with new_folder(out) as made, _looking(job, name, f"features {name}", sets) as advance:
        for images in sets:
            _features(job, images, made, advance)


def features_of_all(
    job: Job, claimant: str, title: str, folders: Mapping[str, list[ImageSet]], out: Path
) -> None:
    """Write features of several painters' image sets, each into a folder of its own in `out`.

    Args:
        job: Who looks.
        claimant: Under which name what is seen is kept, of all together.
        title: Of the progress.
        folders: What is looked at, by the folder in `out`.
        out: Folder to write.

    Raises:
        UserError: As `features` does.
    """
    everything = [images for sets in folders.values() for images in sets]
    with new_folder(out) as made, _looking(job, claimant, title, everything) as advance:
        for folder, sets in folders.items():
            for images in sets:
                _features(job, images, made / folder, advance)


@contextlib.contextmanager
def _looking(job: Job, claimant: str, title: str, sets: list[ImageSet]) -> Iterator[Advance]:
    """Check the sets' captions, keep what was seen of them before, and count their pictures."""
    if job.networks.attributes is not None:
        for captions in {images.captions for images in sets}:
            attributes_of_captions(captions)
    with progress(title, sum(len(images.captions) for images in sets), "pictures") as advance:
        job.pieces.claim(claimant, [key for images in sets for key in _keys(job, images)])
        yield advance


def _features(job: Job, images: ImageSet, out: Path, advance: Advance) -> None:
    images.check()
    chunks = list(_chunks(job, images, advance))
    arrays = {key: np.concatenate([c[key] for c in chunks]) for key in chunks[0]}
    sums = arrays.pop(_SUMS)
    for plugin in job.plugins:
        arrays[f"plugins/{plugin}"] = _plugin(job, images, plugin)
    _write(job, out, images, arrays, hashlib.sha256(sums.tobytes()).hexdigest())


def _starts(images: ImageSet) -> range:
    return range(0, len(images.captions), CHUNK)


def _keys(job: Job, images: ImageSet) -> Iterator[str]:
    """Yield the names of the pieces that hold all about a set."""
    yield from (_chunk_key(job, images, first) for first in _starts(images))
    yield from (_plugin_key(job, images, plugin) for plugin in job.plugins)


def _chunk_key(job: Job, images: ImageSet, first: int) -> str:
    captions = images.captions[first : first + CHUNK]
    seen_by = {name: record.model_dump() for name, record in job.seen_by.items()}
    return key_of(
        pictures=images.tar_sha256,
        first=first,
        captions=captions_sha256(captions),
        seen_by=seen_by,
        **job.how,
    )


def _plugin_key(job: Job, images: ImageSet, plugin: str) -> str:
    return key_of(
        pictures=images.tar_sha256,
        captions=captions_sha256(images.captions),
        plugin=job.plugins[plugin].sha256,
    )


def _chunks(job: Job, images: ImageSet, advance: Advance) -> Iterator[Arrays]:
    """Yield the arrays of each chunk of a set, in order, and look where nobody has looked."""
    kept = {first: _kept(job, _chunk_key(job, images, first)) for first in _starts(images)}
    missing = [first for first, arrays in kept.items() if arrays is None]
    wanted = {first + i for first in missing for i in range(CHUNK)}
    pngs = images.pngs(wanted)
    with ThreadPoolExecutor() as pool:
        decoded = in_order(pool, lambda png: _decoded(images, *png), pngs, BATCH)
        for first, arrays in kept.items():
            count = min(CHUNK, len(images.captions) - first)
            if arrays is None:
                arrays = _seen(job, images, first, count, decoded, advance)
                _keep(job, _chunk_key(job, images, first), arrays)
            else:
                advance(count, images.name)
            yield arrays
        list(decoded)  # to the end of the tar, which says what it lacks


def _seen(
    job: Job,
    images: ImageSet,
    first: int,
    count: int,
    decoded: Iterator[tuple[Pixels, bytes]],
    advance: Advance,
) -> Arrays:
    """Let all networks see the next pictures, and hash them by the way."""
    sums: list[bytes] = []

    def pictures() -> Iterator[Pixels]:
        for pixels, digest in itertools.islice(decoded, count):
            sums.append(digest)
            yield pixels

    viewers = job.viewers.of(images.captions)
    seen: Arrays = dict(look(pictures(), viewers, job.device, first, advance))
    return seen | {_SUMS: np.frombuffer(bytearray().join(sums), np.uint8).reshape(-1, 32)}


def _decoded(images: ImageSet, index: int, png: bytes) -> tuple[Pixels, bytes]:
    """Return a picture, uint8 [H, W, 3], and the SHA-256 of its size and colours."""
    pixels = np.asarray(images.decoded(index, png))
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(pixels.tobytes())
    return pixels, digest.digest()


def _plugin(job: Job, images: ImageSet, name: str) -> NDArray[np.float32]:
    """Return a command's values of a set, float32 [N]."""
    key = _plugin_key(job, images, name)
    kept = _kept(job, key)
    if kept is None:
        plugin = job.score.plugins[name]
        kept = {name: measure_with(name, plugin, images)}
        _keep(job, key, kept)
    return kept[name]


def _kept(job: Job, key: str) -> Arrays | None:
    """Return what a piece holds; None where there is none."""
    folder = job.pieces.find(key)
    return load_file(folder / _ARRAYS) if folder else None


def _keep(job: Job, key: str, arrays: Arrays) -> None:
    """Keep arrays, unless another stage that looked at the same pictures has kept them."""
    with job.pieces.locked(key):
        if job.pieces.find(key) is None:
            with job.pieces.make(key) as made:
                _write_arrays(made / _ARRAYS, arrays)
        job.pieces.clear(key)


def _write_arrays(path: Path, arrays: Arrays) -> None:
    write_tensors(path, {name: torch.tensor(values) for name, values in arrays.items()})


def _write(job: Job, out: Path, images: ImageSet, arrays: Arrays, images_sha256: str) -> None:
    path, cell = out / f"{images.name}.safetensors", images.cell
    _write_arrays(path, arrays)
    record = FeatureRecord(
        painter=images.painter,
        subject_sha256=images.subject_sha256,
        sampler=images.sampler,
        steps=cell.steps if cell else 0,
        guidance=cell.guidance if cell else 0.0,
        seeds=cell.seeds if cell else 0,
        nfe=cell.nfe if cell else 0,
        captions_sha256=captions_sha256(images.captions),
        images_sha256=images_sha256,
        how_sha256=key_of(**job.how),
        arrays=job.seen_by | {f"plugins/{name}": r for name, r in job.plugins.items()},
        sha256=sha256(path),
    )
    write_record(path.with_suffix(".json"), record)
