"""DVC killed over its own files: what is cut short goes, and nothing is made anew."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo

from tasks.running.mending import mend


def dvc(root: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cut")
    stages = "".join(
        f"  {out}:\n    cmd: cp {dep} {out} && echo >> made\n    deps: [{dep}]\n    outs: [{out}]\n"
        for dep, out in (("one", "two"), ("two", "three"))
    )
    (root / "dvc.yaml").write_text(f"stages:\n{stages}")
    (root / "one").write_text("content")
    dvc(root, "init", "--no-scm", "-q")
    dvc(root, "repro", "-q")
    assert list(mend(root)) == []
    return root


def test_a_lock_that_is_cut_short_anywhere_costs_no_work(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    whole = (project / "dvc.lock").read_text()
    mended = 0
    for length in range(0, len(whole), 29):
        (project / "dvc.lock").write_text(whole[:length])
        for line in mend(project):
            assert line.startswith("dvc.lock: cut short when DVC was killed")
            mended += 1
        with Repo(str(project)) as repo:
            repo.reproduce()
        assert (project / "dvc.lock").read_text() == whole, length
    assert mended
    assert len((project / "made").read_text().splitlines()) == 2
    assert list(mend(project)) == []


@pytest.mark.parametrize("text", ["", '{"read": {"/tmp/o', '{"read": []}'])
def test_a_note_of_users_that_is_cut_short_goes(project: Path, text: str) -> None:
    note = project / ".dvc" / "tmp" / "rwlock"
    note.write_text(text)
    assert list(mend(project)) == [".dvc/tmp/rwlock: cut short when DVC was killed; removed"]
    assert not note.exists()


def test_a_note_that_can_be_read_stays(project: Path) -> None:
    note = project / ".dvc" / "tmp" / "rwlock"
    user = {"pid": 1, "cmd": "dvc repro"}
    note.write_text(json.dumps({"write": {"/a": user}, "read": {"/b": [user]}}))
    assert list(mend(project)) == []
    assert note.exists()
    note.unlink()
