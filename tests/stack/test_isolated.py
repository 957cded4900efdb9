"""A retrain over two workers, whose stage, engine and worker are killed: nothing is made twice."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML
from team_stack import Stack

ROOT = Path(__file__).parents[2]
TOY = ROOT / "tests" / "flows" / "toy"
PRESET = ROOT / "lcm_lora" / "presets" / "shapes.yaml"
_PATIENCE = 600.0
"""Seconds that a busy machine may take for a whole run of the toy."""


class Team:
    """A project, whose remote is the stack's store, and a clone of it for each pool's worker."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack, self.project = stack, folder / "project"
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        home = {"PREFECT_HOME": str(folder / "prefect"), "PYTHONPATH": str(ROOT)}
        self.environment = {**os.environ, **stack.environment, **home, "PATH": path}
        self.project.mkdir()
        self.call("git", "init", "--quiet", "--initial-branch", "main")
        self.call("dvc", "init", "--quiet")
        store = stack.environment["LCM_LORA_STORE"]
        self.call("dvc", "remote", "add", "--default", "store", f"{store}/isolated")
        endpoint = stack.environment["AWS_ENDPOINT_URL"]
        self.call("dvc", "remote", "modify", "store", "endpointurl", endpoint)
        self._write()
        self.call("git", "add", ".")
        who = ("-c", "user.name=Toy", "-c", "user.email=toy@example.com")
        self.call("git", *who, "commit", "--quiet", "--message", "The toy project")
        self.clones = {pool: folder / pool for pool in ("cpu", "gpu")}
        for pool, clone in self.clones.items():
            self.call("git", "clone", "--quiet", str(self.project), str(clone))
            stack.worker(pool, clone)
        deploy = [sys.executable, "-m", "flows.deploy"]
        subprocess.run(deploy, cwd=ROOT, env=self.environment, check=True, capture_output=True)

    def _write(self) -> None:
        for name in ("dvc.yaml", "toy.py"):
            shutil.copy(TOY / name, self.project)
        (self.project / "source").mkdir()
        (self.project / "source" / "one.txt").write_text("one")
        params = YAML(typ="safe").load(PRESET.read_text())
        params["distill"]["seed"] = 20
        limits = {"limits": {"fd_shapes:real": 30.0}, "target": {"fd_shapes:real": 0.0}}
        params["registry"]["gate"] = [{"steps": 4, "guards": {"attributes": 0.05}} | limits]
        params["registry"]["smoke"] = 0
        params["registry"]["name"] = params["registry"]["experiment"] = "isolated"
        (self.project / "params.yaml").write_text(json.dumps(params))
        ignored = ("/data/", "/artifacts/", "/.checkpoints/", "/.mlflow/", "/.prefect/")
        (self.project / ".gitignore").write_text("\n".join(ignored) + "\n")

    def call(self, *command: str) -> None:
        """Run a command in the project; it must succeed."""
        subprocess.run(command, cwd=self.project, env=self.environment, check=True)

    def retrain(self, *arguments: str) -> subprocess.Popen[str]:
        """Start an isolated retrain, as a user does."""
        return subprocess.Popen(
            [sys.executable, "-m", "flows.retrain", "--isolated", *arguments],
            cwd=self.project,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def started(self) -> list[str]:
        """Return the stages that workers started since the last call, sorted."""
        found: list[str] = []
        for clone in self.clones.values():
            notes = clone / ".checkpoints" / "started"
            if notes.exists():
                found += notes.read_text().splitlines()
                notes.unlink()
        return sorted(found)

    def hold(self) -> Path:
        """Have trainings stand still until the file is removed."""
        hold = self.clones["gpu"] / ".checkpoints" / "hold"
        hold.parent.mkdir(exist_ok=True)
        hold.touch()
        return hold

    def standing(self, run: subprocess.Popen[str]) -> list[psutil.Process]:
        """Wait until a training stands still; return the worker's family, engine first."""
        notes, end = self.clones["gpu"] / ".checkpoints" / "started", time.monotonic() + _PATIENCE
        while not (notes.exists() and "distill" in notes.read_text()):
            assert run.poll() is None, run.communicate()[0]
            assert time.monotonic() < end, "no training began"
            time.sleep(0.2)
        notes.unlink()
        return self.stack.process("worker-gpu").children(recursive=True)


def whose(family: list[psutil.Process], words: str) -> psutil.Process:
    """Return the youngest of a family whose command ends so."""
    return next(one for one in reversed(family) if " ".join(one.cmdline()).endswith(words))


@pytest.fixture
def team(stack: Stack, tmp_path: Path) -> Iterator[Team]:
    yield Team(stack, tmp_path)
    for pool in ("cpu", "gpu"):
        stack.dismiss(f"worker-{pool}")


def test_only_what_was_cut_off_is_made_again(team: Team) -> None:
    hold = team.hold()
    run = team.retrain()
    whose(team.standing(run), "toy.py distill").kill()
    said, _ = run.communicate(timeout=_PATIENCE)
    last = "error: distill: killed by signal 9 (SIGKILL); out of memory?"
    assert (run.returncode, said.splitlines()[-1]) == (1, last), said

    run = team.retrain()
    families = [team.standing(run)]
    whose(families[0], "prefect.engine").kill()
    families.append(team.standing(run))
    team.stack.process("worker-gpu").kill()
    _, alive = psutil.wait_procs(families[0] + families[1], timeout=30)
    assert alive == []
    team.stack.worker("gpu", team.clones["gpu"])
    team.standing(run)
    hold.unlink()
    said, _ = run.communicate(timeout=_PATIENCE)
    assert run.returncode == 0, said
    paints = ["generate champion", "generate ddim", "generate teacher"]
    once = ["decide", *paints, "prepare", "report", "score", "select"]
    assert team.started() == sorted(once)

    run = team.retrain("--why", "nothing is new")
    said, _ = run.communicate(timeout=_PATIENCE)
    assert (run.returncode, team.started()) == (0, []), said
    run = team.retrain("--set", "report.title=Another")
    said, _ = run.communicate(timeout=_PATIENCE)
    assert (run.returncode, team.started()) == (0, ["report"]), said

    run = team.retrain("--set", "report.title=bad")
    said, _ = run.communicate(timeout=_PATIENCE)
    last = "error: report: report.title is bad; choose another"
    assert (run.returncode, said.splitlines()[-1]) == (1, last), said
    for clone in (team.project, *team.clones.values()):
        checkouts = clone / ".checkpoints" / "checkouts"
        assert [place.name for place in checkouts.iterdir()] == ["lock"]
