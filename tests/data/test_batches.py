"""Batches are a pure function of seed and position, and hold the very rows of the cache."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from making import make_cache
from safetensors.torch import load_file

from lcm_lora.data.batches import LatentCache, order
from lcm_lora.errors import UserError
from lcm_lora.hashes import Hashes

COUNTS = st.integers(1, 60)
SEEDS = st.integers(0, 2**31)


@given(COUNTS, SEEDS, st.integers(0, 1000))
def test_every_epoch_is_a_permutation(count: int, seed: int, epoch: int) -> None:
    assert sorted(order(count, seed, epoch * count, count)) == list(range(count))


@given(COUNTS, SEEDS, st.integers(0, 500), st.lists(st.integers(1, 80), max_size=6))
def test_the_sequence_does_not_depend_on_the_batch(
    count: int, seed: int, start: int, batches: list[int]
) -> None:
    pieces: list[int] = []
    for batch in batches:
        pieces += order(count, seed, start + len(pieces), batch)
    assert pieces == order(count, seed, start, sum(batches))


@given(COUNTS, SEEDS, st.integers(0, 10**15), st.integers(0, 80))
def test_a_far_position_is_the_sequence_from_its_epoch(
    count: int, seed: int, position: int, batch: int
) -> None:
    ahead = position % count
    assert (
        order(count, seed, position, batch)
        == order(count, seed, position - ahead, ahead + batch)[ahead:]
    )


def test_epochs_and_seeds_differ() -> None:
    epochs = [tuple(order(50, seed, epoch * 50, 50)) for seed in (0, 1) for epoch in range(20)]
    assert len(set(epochs)) == len(epochs)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, data: Path, tiny_base: Any) -> Path:
    """Encoded scenes. Read only."""
    project = tmp_path_factory.mktemp("encoded")
    shutil.copytree(data / "data", project / "data")
    return make_cache(project, lambda _: tiny_base(), batch=16)


def files_of(cache: Path) -> list[Path]:
    """Return the files of a cache in the order of its index."""
    index = json.loads((cache / "index.json").read_text())
    return [cache / shard["file"] for shard in index["shards"]]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen=st.data())
def test_rows_are_those_of_the_files(cache: Path, hashes: Hashes, chosen: st.DataObject) -> None:
    opened = LatentCache(cache, hashes)
    indices = chosen.draw(st.lists(st.integers(0, len(opened) - 1), min_size=1, max_size=12))
    batch = opened.rows(indices)
    shards = [load_file(path) for path in files_of(cache)]
    for name in ("mean", "std", "time_ids"):
        whole = torch.cat([shard[name] for shard in shards])
        read = getattr(batch, name)
        assert read.dtype == torch.float32
        assert torch.equal(read, whole[indices].float())
    captions = []
    for shard in shards:
        content, ends = bytes(shard["captions"].tolist()), shard["ends"].tolist()
        captions += [content[a:b].decode() for a, b in zip([0, *ends], ends, strict=False)]
    assert batch.captions == [captions[index] for index in indices]


def test_a_cache_tells_what_it_is(cache: Path, hashes: Hashes) -> None:
    opened = LatentCache(cache, hashes)
    about = opened.index.about
    assert len(opened) == opened.index.samples == opened.rows(range(len(opened))).mean.shape[0]
    assert (about.scaling_factor, about.shape) == (0.7, (3, 8, 8))
    for index_outside in (-1, len(opened)):
        with pytest.raises(IndexError):
            opened.rows([index_outside])


@pytest.mark.parametrize("which", ["index", "first", "last"])
@pytest.mark.parametrize("harm", ["remove", "cut", "flip", "swap", "empty"])
def test_a_damaged_cache_is_an_error(
    tmp_path: Path, cache: Path, hashes: Hashes, which: str, harm: str
) -> None:
    copy = tmp_path / "cache"
    shutil.copytree(cache, copy)
    files = files_of(copy)
    path = {"index": copy / "index.json", "first": files[0], "last": files[-1]}[which]
    content = bytearray(path.read_bytes())
    match harm:
        case "remove":
            path.unlink()
        case "cut":
            path.write_bytes(content[:-20])
        case "flip":
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        case "swap":
            path.write_bytes(files[0 if path != files[0] else 1].read_bytes())
        case _:
            path.write_bytes(b"")
    with pytest.raises(UserError, match="run `lcm-lora encode`") as error:
        LatentCache(copy, hashes)
    assert str(copy) in str(error.value)
    assert "\n" not in str(error.value)


def test_reading_holds_no_file_open(cache: Path, hashes: Hashes) -> None:
    """A thousand shards are more files than most systems let a process open."""
    opened = LatentCache(cache, hashes)
    opened.rows(range(len(opened)))
    held = [Path(file.path) for file in psutil.Process().open_files()]
    assert [file for file in held if file.is_relative_to(cache.resolve())] == []
