"""Checkpoints on any file system: whole or none, and told in a line where that cannot be."""

import errno
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
from failing import Failing
from running import run

from lcm_lora.errors import UserError
from lcm_lora.files import sha256
from lcm_lora.store import open_store
from lcm_lora.training import loop


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
        ("gs://bucket/runs", "install gcsfs"),
        ("https://127.0.0.1:9/runs", "Cannot connect"),
    ],
)
def test_a_place_that_cannot_be_used_is_told_before_training(
    url: str, problem: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=rf"distill\.checkpoints .*cannot be used .*{problem}"):
        run(tmp_path, cache, checkpoints=url)
    monkeypatch.setenv("LCM_LORA_STORE", url)
    with pytest.raises(UserError, match=rf"LCM_LORA_STORE .*cannot be used .*{problem}"):
        run(tmp_path, cache)
    assert not (tmp_path / "state").exists()


def test_a_full_disk_is_told_with_its_place(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "runs"), "distill.checkpoints")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            store.at("run").write("state.safetensors", bytes(100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.filename == str(tmp_path / "runs" / "run" / "state.safetensors")
    assert caught.value.errno == errno.EFBIG
    assert store.at("run").names() == []


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the program handles it."""


def test_another_machine_goes_on_from_the_shared_store_alone(
    whole: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LCM_LORA_STORE", str(tmp_path / "far"))
    step, made = loop.Run.step, 0

    def dying(self: loop.Run, batches: Any) -> Any:
        nonlocal made
        made += 1
        if made == 4:
            raise Killed
        return step(self, batches)

    monkeypatch.setattr(loop.Run, "step", dying)
    with pytest.raises(Killed):
        run(tmp_path / "a", cache)
    shutil.rmtree(tmp_path / "a")
    run(tmp_path / "b", cache)
    assert made == 4 + 3  # the third again, since the checkpoint is of the second
    for output in ("candidates", "curve"):
        assert sha256(tmp_path / "b" / output) == sha256(whole / output)
    assert not list((tmp_path / "b" / "state").glob("*/step-*"))
    (kept,) = (tmp_path / "far" / "checkpoints").iterdir()
    steps = sorted(path.name for path in kept.glob("step-*"))
    assert steps == ["step-00000004", "step-00000005"], "older ones are cleared"


def test_the_parameters_place_goes_before_the_shared_store(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LCM_LORA_STORE", "nowhere://bucket")
    run(tmp_path, cache, steps=1, checkpoints=str(tmp_path / "far"))
    assert list((tmp_path / "far").glob("*/step-*"))
