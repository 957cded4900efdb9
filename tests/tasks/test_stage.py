"""What becomes of a stage, and its last word, by DVC itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.running.graph import Stage, plan
from tasks.running.stage import Outcome, StageError, Workshop, reproduce

pytestmark = pytest.mark.usefixtures("warm_starts")

DIE = "python -c 'import os; os.kill(os.getpid(), {})'"
KILLED = "killed by signal 9 (SIGKILL); out of memory?"
FAILURES = {
    "killed": (DIE.format(9), KILLED),
    "killed-in-a-shell": (f"echo one; {DIE.format(9)}; exit $?", KILLED),
    "terminated": (DIE.format(15), "killed by signal 15 (SIGTERM)"),
    "wordless": (
        "echo one; echo two; exit 3",
        "ended with exit status 3 and no message; its last ",
    ),
    "silent": ("exit 4", "ended with exit status 4 and no message"),
    "telling": ("echo error: no such thing; echo a farewell; exit 1", "no such thing"),
    "idle": ("true", "output 'idle' does not exist"),
}


def write_project(root: Path, stages: dict[str, object]) -> None:
    (root / "dvc.yaml").write_text(json.dumps({"stages": stages}))
    init = ["dvc", "init", "--no-scm", "--quiet"]
    subprocess.run([sys.executable, "-m", *init], cwd=root, check=True)


def run(root: Path, stage: Stage) -> Outcome:
    return reproduce(stage, Workshop(root, 1), lambda line: None, None)


def test_a_failure_says_why(tmp_path: Path) -> None:
    stages = {name: {"cmd": cmd, "outs": [name]} for name, (cmd, _) in FAILURES.items()}
    write_project(tmp_path, stages)
    for stage in plan(tmp_path):
        with pytest.raises(StageError) as caught:
            run(tmp_path, stage)
        assert FAILURES[stage.name][1] in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_outcome_knows_whether_its_outputs_are_new(tmp_path: Path) -> None:
    stage = {"cmd": "wc -c < given > length", "deps": ["given"], "outs": ["length"]}
    write_project(tmp_path, {"count": stage})
    seen = []
    for text in ("four", "five", "seven"):
        (tmp_path / "given").write_text(text)
        outcome = run(tmp_path, *plan(tmp_path))
        seen.append((outcome.verdict, outcome.is_new))
    assert seen == [("Ran", True), ("Ran", False), ("Ran", True)]
