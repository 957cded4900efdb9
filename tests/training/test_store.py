"""Checkpoints on any file system: whole or none, and told in a line where that cannot be."""

import errno
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from running import run

from lcm_lora.errors import UserError
from lcm_lora.files import sha256
from lcm_lora.training import loop
from lcm_lora.training.store import open_store


class Failing(MemoryFileSystem):
    """A file system in memory that fails at its nth write from now, halfway."""

    protocol = "failing"
    writes_left = 10**9

    def put_file(self, lpath: str, rpath: str, **options: Any) -> None:
        self.pipe_file(rpath, Path(lpath).read_bytes())

    def pipe_file(self, path: str, value: bytes, *more: Any, **options: Any) -> None:
        Failing.writes_left -= 1
        if Failing.writes_left == 0:
            super().pipe_file(path, value[: len(value) // 2], *more, **options)
            raise TimeoutError("the network is gone")
        super().pipe_file(path, value, *more, **options)


fsspec.register_implementation("failing", Failing)


# A candidate, the tensors of a checkpoint, its record.
@pytest.mark.parametrize("writes", [4, 5, 6])
def test_a_run_whose_far_disk_fails_anywhere_goes_on_from_a_whole_checkpoint(
    writes: int, whole: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"failing://bucket/{writes}"
    monkeypatch.setattr(Failing, "writes_left", writes + 1)  # the first only tries the place
    with pytest.raises(UserError, match=rf"bucket/{writes}/.*: cannot be used \(TimeoutError: the"):
        run(tmp_path, cache, checkpoints=url)
    Failing.writes_left = 10**9
    run(tmp_path, cache, checkpoints=url)
    for made in ("candidates", "curve"):
        assert sha256(tmp_path / made) == sha256(whole / made)


def test_a_far_place_may_be_shared_with_other_runs(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = (tmp_path / "far").as_uri()
    kept = tmp_path / "far" / ("0" * 16) / "step-00000001"
    kept.mkdir(parents=True)
    run(tmp_path, cache, steps=1, checkpoints=url)
    assert kept.is_dir()
    assert not list((tmp_path / "state").glob("*/step-*"))
    monkeypatch.setattr(loop.Run, "step", None)
    run(tmp_path, cache, steps=1, checkpoints=url)  # makes no step


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("nowhere://bucket/runs", "Protocol not known: nowhere"),
        ("s3://bucket/runs", "Install s3fs"),
        ("https://127.0.0.1:9/runs", "Cannot connect"),
    ],
)
def test_a_place_that_cannot_be_used_is_told_before_training(
    url: str, problem: str, cache: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=rf"distill\.checkpoints .*cannot be used .*{problem}"):
        run(tmp_path, cache, checkpoints=url)
    assert not (tmp_path / "state").exists()


def test_a_full_disk_is_told_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(None, tmp_path / "runs")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(store.files), "pipe_file", full)
    with pytest.raises(OSError, match="No space left") as caught:
        store.at("run").write("state.safetensors", b"x")
    assert caught.value.filename == str(tmp_path / "runs" / "run" / "state.safetensors")
    assert caught.value.errno == errno.ENOSPC
