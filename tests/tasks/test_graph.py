"""The plan is dvc.yaml's graph, and DVC's own opinion of what is up to date."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lcm_lora.errors import UserError
from tasks.running.graph import is_due, locked, plan

PIPELINE = """
stages:
  last:
    cmd: cat middle-a middle-b > last
    deps: [middle-a, middle-b]
    outs: [last]
  middle:
    matrix: {letter: [a, b]}
    cmd: cp first middle-${item.letter}
    deps: [first]
    params: [wanted.amount]
    outs: ["middle-${item.letter}"]
    meta: {pool: gpu}
  first:
    cmd: cp given first
    deps: [given]
    outs: [first]
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "given").write_text("text")
    (tmp_path / "params.yaml").write_text("wanted: {amount: 1}\n")
    dvc(tmp_path, "init", "--no-scm", "--quiet")
    return tmp_path


def dvc(root: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=root, check=True)


def test_plan_is_the_graph_in_an_order_that_can_run(root: Path) -> None:
    stages = plan(root)
    assert [stage.name for stage in stages] == ["first", "middle@a", "middle@b", "last"]
    upstream = {stage.name: stage.upstream for stage in stages}
    assert upstream["last"] == ("middle@a", "middle@b")
    assert upstream["middle@a"] == ("first",)
    assert [stage.chain for stage in stages] == [2, 1, 1, 0]
    assert [stage.meta.get("pool") for stage in stages] == [None, "gpu", "gpu", None]
    assert stages[1].outputs == {Path("middle-a"): ""}
    assert all(stage.changes for stage in stages)
    assert locked(root) == {}


def test_plan_agrees_with_dvc_about_what_changed(root: Path) -> None:
    dvc(root, "repro", "--quiet")
    assert not any(stage.changes for stage in plan(root))
    hashes = locked(root)
    assert set(hashes) == {Path(n) for n in ("first", "middle-a", "middle-b", "last")}
    assert [hash for stage in plan(root) for hash in stage.outputs.values()] == [*hashes.values()]

    (root / "params.yaml").write_text("wanted: {amount: 2}\n")
    changes = {stage.name: stage.changes for stage in plan(root)}
    assert changes["middle@a"] == changes["middle@b"] == ("wanted.amount modified",)
    assert not changes["first"]


def test_an_output_is_due_if_anything_before_it_changes(root: Path) -> None:
    first, middle, last = (Path(name) for name in ("first", "middle-a", "last"))
    assert is_due(plan(root), first)
    dvc(root, "repro", "--quiet")
    stages = plan(root)
    assert not is_due(stages, last)
    (root / "params.yaml").write_text("wanted: {amount: 2}\n")
    found = plan(root)
    assert [is_due(found, path) for path in (first, middle, last)] == [False, True, True]
    (root / "given").write_text("other")
    assert is_due(plan(root), first)


def test_what_is_only_not_here_is_not_due(root: Path) -> None:
    dvc(root, "repro", "--quiet")
    for path in (root / name for name in ("first", "middle-a", "last")):
        path.unlink()
    stages = plan(root)
    assert any(stage.changes for stage in stages)
    assert not is_due(stages, Path("last"))
    (root / "given").unlink()  # it is no output, so nothing brings it back
    assert is_due(plan(root), Path("last"))


def test_a_broken_graph_is_one_line(tmp_path: Path) -> None:
    dvc(tmp_path, "init", "--no-scm", "--quiet")
    (tmp_path / "dvc.yaml").write_text("stages: {one: {command: ls}}\n")
    with pytest.raises(UserError, match=r"DVC cannot read the graph: .*dvc\.yaml") as caught:
        plan(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"dvc\.yaml: no such file; run in the project's folder"),
        ("", r"dvc\.yaml: names no stages"),
        ("stages: {}", r"dvc\.yaml: names no stages"),
        ("vars: [{a: 1}]", r"dvc\.yaml: names no stages"),
    ],
)
def test_no_stages_are_no_success(tmp_path: Path, content: str | None, message: str) -> None:
    dvc(tmp_path, "init", "--no-scm", "--quiet")
    if content is not None:
        (tmp_path / "dvc.yaml").write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        plan(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_lock_that_is_being_written_is_no_error(root: Path) -> None:
    dvc(root, "repro", "--quiet")
    whole, hashes = (root / "dvc.lock").read_text(), locked(root)
    for length in range(0, len(whole), 5):
        (root / "dvc.lock").write_text(whole[:length])
        assert set(locked(root)) <= set(hashes)
