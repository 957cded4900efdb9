"""The champion's data come from DVC by their hash, and only what is new is compared with them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import scene_shards
from prefect.logging import disable_run_logger
from ruamel.yaml import YAML
from scene_shards import scenes

from lcm_lora.errors import UserError
from lcm_lora.params.drift import Drift
from tasks.champions import drift
from tasks.running.run_cache import RunCache

ROOT = Path(__file__).parents[2]
SHARDS = Path("data/shards")


def dvc(root: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments, "-q"], cwd=root, check=True)


def put(root: Path, samples: list[scene_shards.ShardSample]) -> str:
    """Have these data in a project; return DVC's hash of them."""
    shutil.rmtree(root / SHARDS, ignore_errors=True)
    scene_shards.save(root / SHARDS, samples)
    dvc(root, "add", str(SHARDS))
    found = YAML(typ="safe").load((root / "data" / "shards.dvc").read_text())
    return str(found["outs"][0]["md5"])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return a project whose data are elsewhere than in its cache, and their hash."""
    root = tmp_path_factory.mktemp("drift")
    dvc(root, "init", "--no-scm")
    dvc(root, "remote", "add", "--default", "team", str(root / "remote"))
    md5 = put(root, scenes(0, 80))
    dvc(root, "push")
    shutil.rmtree(root / ".dvc" / "cache")
    text = (ROOT / "lcm_lora" / "presets" / "shapes.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("pictures: 512", "pictures: 64"))
    subprocess.run([Path(sys.executable).with_name("lcm-lora"), "inventory"], cwd=root, check=True)
    return root, md5


def test_new_data_of_another_kind_are_told_from_those_in_the_remote(
    project: tuple[Path, str],
) -> None:
    root, md5 = project
    params = Drift(pictures=64)
    now = put(root, [*scenes(0, 80), *scenes(10000, 80, "a large red")])
    shutil.rmtree(root / SHARDS)  # a run elsewhere has none of them at hand
    with disable_run_logger():
        assert drift.compare.fn(root, md5, md5, params) is None
        found = drift.compare.fn(root, md5, now, params)
    assert found is not None
    assert (found.before, found.now) == (64, 64)  # none of the shards that both have
    assert found.quantities[0].has_drifted


def test_what_nobody_has_any_more_is_said_in_a_line(project: tuple[Path, str]) -> None:
    root, md5 = project
    with RunCache(root) as cache:
        lost = "0" * 32 + ".dir"
        with pytest.raises(UserError, match=rf"data/shards {lost}: neither in DVC's cache nor in"):
            cache.held(SHARDS, lost)
        name, info = next(iter(cache.held(SHARDS, md5).items()))
    copy = root / "remote" / "files" / "md5" / info.value[:2] / info.value[2:]
    os.chmod(copy, 0o644)
    away = copy.rename(root / "away")
    shutil.rmtree(root / ".dvc" / "cache", ignore_errors=True)
    try:
        with RunCache(root) as cache, pytest.raises(UserError, match=rf"{name}.*{info.value}"):
            cache.lay_out(cache.held(SHARDS, md5), root / "fetched")
    finally:
        away.rename(copy)


def test_what_the_cache_holds_needs_no_remote(tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    dvc(alone, "init", "--no-scm")
    md5 = put(alone, scenes(0, 8))
    with RunCache(alone) as cache:
        cache.lay_out(cache.held(SHARDS, md5), tmp_path / "out")
    names = {path.name for path in (alone / SHARDS).iterdir()}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
