"""Checkouts of one clone share their pieces: of two at work at once neither loses any."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from making import make_cache, make_data
from tiny import open_nothing, open_tiny

from lcm_lora.data import encode, unit_shards
from lcm_lora.files import sha256
from lcm_lora.params.sources import ShapesSource
from lcm_lora.store import open_store

SMALL: dict[str, Any] = {"resolution": 16, "min_side": 16, "held_out": 0.4, "selection": 0.1}


@pytest.fixture
def checkout(data: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Return what makes a checkout with prepared data."""

    def made(name: str) -> Path:
        shutil.copytree(data / "data", tmp_path / name / "data")
        (tmp_path / ".checkpoints").mkdir(exist_ok=True)
        (tmp_path / name / ".checkpoints").symlink_to(tmp_path / ".checkpoints")
        return tmp_path / name

    return made


class Beside:
    """Other work, which starts in the midst of a piece and goes as far as it can."""

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        pool: ThreadPoolExecutor,
    ) -> None:
        self._patch, self._capsys, self._pool = patch, capsys, pool
        self._other: Future[Path] | None = None
        self.has_waited = False

    def start(self, work: Callable[[], Path], module: Any, writer: str) -> None:
        """Start it when a function that writes a piece is called for the first time."""
        real = getattr(module, writer)

        def called(*arguments: Any) -> Any:
            if self._other is None:
                self._other = self._pool.submit(work)
                self._follow(self._other)
            return real(*arguments)

        self._patch.setattr(module, writer, called)

    def _follow(self, other: Future[Path]) -> None:
        said, end = "", time.monotonic() + 60
        while not other.done() and not self.has_waited:
            assert time.monotonic() < end
            time.sleep(0.05)
            said += self._capsys.readouterr().err
            self.has_waited = "waiting for another" in said

    def end(self) -> Path:
        """Wait for the end of it; return what it returns."""
        assert self._other is not None
        return self._other.result()


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Beside]:
    with ThreadPoolExecutor(1) as pool:
        yield Beside(monkeypatch, capsys, pool)


def test_of_two_that_encode_the_second_waits(
    checkout: Callable[[str], Path], beside: Beside
) -> None:
    first, second = checkout("first"), checkout("second")
    beside.start(lambda: make_cache(second, open_tiny, "two", batch=8), encode, "write_tensors")
    one = make_cache(first, open_tiny, "one", batch=8)
    two = beside.end()
    assert beside.has_waited
    latents = [{path.name for path in cache.glob("*.safetensors")} for cache in (one, two)]
    assert latents[0] == latents[1] != set()


def test_of_two_that_prepare_the_second_waits(
    checkout: Callable[[str], Path], beside: Beside
) -> None:
    first, second = checkout("first"), checkout("second")

    def prepared(place: Path, seed: int) -> Path:
        return make_data(place, ShapesSource(count=40, seed=seed), shard_samples=4, **SMALL)

    beside.start(lambda: prepared(second, 5), unit_shards, "write_shard")
    one = sha256(prepared(first, 4) / "data")
    two = sha256(beside.end() / "data")
    assert beside.has_waited
    assert [one, two] == [sha256(prepared(first, 4) / "data"), sha256(prepared(second, 5) / "data")]


def test_shares_of_one_stage_are_made_side_by_side_and_who_is_last_clears_up(
    checkout: Callable[[str], Path], beside: Beside, tmp_path: Path
) -> None:
    shared = open_store(f"memory://{tmp_path}", "LCM_LORA_STORE")
    make_cache(checkout("before"), open_tiny, "before", batch=8)
    pieces = tmp_path / ".checkpoints" / "encode"
    old = {path.name for path in pieces.iterdir()}

    def share(number: int) -> Path:
        place = checkout(f"share-{number}")
        return make_cache(place, open_tiny, "now", shared=shared, share=(number, 2), batch=8)

    beside.start(lambda: share(2), encode, "write_record")
    share(1)
    beside.end()
    assert not beside.has_waited
    assert not old & {path.name for path in pieces.iterdir()}
    make_cache(checkout("whole"), open_nothing, "now", batch=8)  # all is here


def test_a_share_waits_for_one_that_encodes_all(
    checkout: Callable[[str], Path], beside: Beside, tmp_path: Path
) -> None:
    shared = open_store(f"memory://{tmp_path}", "LCM_LORA_STORE")
    first, second = checkout("first"), checkout("second")
    share: dict[str, Any] = {"shared": shared, "share": (1, 2), "batch": 8}
    beside.start(lambda: make_cache(second, open_tiny, "two", **share), encode, "write_tensors")
    make_cache(first, open_tiny, "one", batch=8)
    assert not beside.end().exists()
    assert beside.has_waited
