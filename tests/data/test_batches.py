"""Batches are a pure function of seed and position, and hold the very rows of the cache."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from lcm_lora.data.batches import LatentCache, order
from lcm_lora.data.encode import encode
from lcm_lora.errors import UserError
from lcm_lora.params import Encode

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


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def cache(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    shards: Path,
    tiny_base: Callable[[str], Any],
) -> Path:
    """Encoded scenes, of both kinds of base. Read only."""
    out = tmp_path_factory.mktemp("encoded") / "cache"
    encode(Encode(batch=16), tiny_base(request.param), shards, out)
    return out


@settings(deadline=None)
@given(data=st.data())
def test_rows_are_those_of_the_files(cache: Path, data: st.DataObject) -> None:
    opened = LatentCache(cache)
    indices = data.draw(st.lists(st.integers(0, len(opened) - 1), min_size=1, max_size=12))
    batch = opened.rows(indices)
    paths = sorted((cache / "train").iterdir())
    whole = {
        name: torch.cat([load_file(path)[name] for path in paths]) for name in load_file(paths[0])
    }
    captions = load_file(cache / "captions.safetensors")
    expected = {name: value[whole["caption"][indices]] for name, value in captions.items()}
    if "time_ids" in whole:
        expected["time_ids"] = whole["time_ids"][indices]
    assert torch.equal(batch.mean, whole["mean"][indices])
    assert torch.equal(batch.std, whole["std"][indices])
    assert batch.conditioning.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(batch.conditioning[name], value)


def test_a_cache_tells_what_it_is(cache: Path) -> None:
    opened = LatentCache(cache)
    index = json.loads((cache / "index.json").read_text())
    assert len(opened) == index["samples"] == opened.rows(range(len(opened))).mean.shape[0]
    assert (opened.kind, opened.base, opened.scaling_factor) == (index["kind"], "tiny", 0.7)
    assert opened.shape == (3, 8, 8)
    for index_outside in (-1, len(opened)):
        with pytest.raises(IndexError):
            opened.rows([index_outside])


def test_the_empty_caption_serves_any_batch(cache: Path) -> None:
    opened = LatentCache(cache)
    conditioning = opened.rows([0, 1, 2]).conditioning
    empty = opened.empty(3)
    assert empty.keys() == conditioning.keys() - {"time_ids"}
    stored = load_file(cache / "empty.safetensors")
    for name, value in empty.items():
        assert value.shape == conditioning[name].shape
        assert all(torch.equal(row, stored[name][0]) for row in value)


@pytest.mark.parametrize(
    "file", ["index.json", "train/00001.safetensors", "captions.safetensors", "empty.safetensors"]
)
@pytest.mark.parametrize("harm", ["remove", "cut", "swap"])
def test_an_incomplete_cache_is_an_error(tmp_path: Path, cache: Path, file: str, harm: str) -> None:
    copy = tmp_path / "cache"
    shutil.copytree(cache, copy)
    match harm:
        case "remove":
            (copy / file).unlink()
        case "cut":
            (copy / file).write_bytes((cache / file).read_bytes()[:-20])
        case _:
            (copy / file).write_text("{}")
    with pytest.raises(UserError, match="run `lcm-lora encode`") as error:
        LatentCache(copy)
    assert str(copy) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_shard_of_another_cache_is_an_error(tmp_path: Path, cache: Path) -> None:
    copy = tmp_path / "cache"
    shutil.copytree(cache, copy)
    last = sorted((copy / "train").iterdir())[-1]
    assert len(load_file(last)["mean"]) < 8
    shutil.copy(copy / "train/00000.safetensors", last)
    with pytest.raises(UserError, match=rf"{last}: not as index\.json says"):
        LatentCache(copy)
