"""A project whose stages take a moment, with real git and DVC: for tests of what runs them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
TOY = ROOT / "tests" / "flows" / "toy"
PRESET = ROOT / "lcm_lora" / "presets" / "shapes.yaml"
_BIN = str(Path(sys.executable).parent)


@dataclass
class Project:
    """A toy project's folder, and what one does in it."""

    root: Path

    def set(self, name: str, value: Any) -> None:
        """Change a parameter, such as `distill.seed`."""
        path = self.root / "params.yaml"
        params = json.loads(path.read_text())
        *sections, last = name.split(".")
        section = params
        for key in sections:
            section = section[key]
        section[last] = value
        path.write_text(json.dumps(params))

    def damage(self, path: str, text: str) -> None:
        """Have the stage that writes a file leave this text there."""
        (self.root / ".checkpoints" / "damage").write_text(json.dumps([path, text]))

    def started(self) -> list[str]:
        """Return the stages whose commands have started since the last call, in order."""
        lines = self.noted()
        (self.root / ".checkpoints" / "started").unlink(missing_ok=True)
        return lines

    def noted(self) -> list[str]:
        """Return the same, and leave it to be returned again."""
        notes = self.root / ".checkpoints" / "started"
        return notes.read_text().splitlines() if notes.exists() else []

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start Python as a user does who has set nothing up, unless it is in `environment`."""
        theirs = ("PREFECT", "MLFLOW")
        ours = {name: v for name, v in os.environ.items() if not name.startswith(theirs)}
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.root,
            env={**ours, "PYTHONPATH": str(ROOT), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @contextlib.contextmanager
    def standing_training(
        self, *arguments: str, **environment: str
    ) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
        """Start a run; yield it and its family while its training stands still."""
        hold = self.root / ".checkpoints" / "hold"
        hold.parent.mkdir(exist_ok=True)
        hold.touch()
        self.started()
        run = self.start(*arguments, **environment)
        try:
            while "distill" not in self.noted() and run.poll() is None:
                time.sleep(0.1)
            assert run.poll() is None, run.communicate()[0]
            yield run, psutil.Process(run.pid).children(recursive=True)
        finally:
            hold.unlink()
            run.kill()

    def commit(self, message: str) -> str:
        """Commit all there is; return the commit."""
        self.call("git", "add", ".")
        who = ("-c", "user.name=Toy", "-c", "user.email=toy@example.com")
        self.call("git", *who, "commit", "--quiet", "--message", message)
        return self.call("git", "rev-parse", "HEAD").strip()

    def call(self, *command: str) -> str:
        """Run a command in the folder; it must succeed."""
        environment = {**os.environ, "PATH": f"{_BIN}:{os.environ['PATH']}"}
        done = subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def copy_of(project: Project, folder: Path) -> Project:
    """Return a copy of a project whose MLflow, which knows absolute paths, is its own."""
    shutil.copytree(project.root, folder, symlinks=True)
    database = folder / ".mlflow" / "mlflow.db"
    if database.exists():
        with contextlib.closing(sqlite3.connect(database)) as source:
            script = "\n".join(source.iterdump()).replace(str(project.root), str(folder))
        database.unlink()
        with contextlib.closing(sqlite3.connect(database)) as target:
            target.executescript(script)
    return Project(folder)


def toy(folder: Path) -> Project:
    """Make a committed project that has never run."""
    project = Project(folder)
    project.root.mkdir()
    project.call("git", "init", "--quiet", "--initial-branch", "main")
    project.call("dvc", "init", "--quiet")
    for name in ("dvc.yaml", "toy.py"):
        shutil.copy(TOY / name, project.root)
    (project.root / "source").mkdir()
    (project.root / "source" / "one.txt").write_text("one")
    params = YAML(typ="safe").load(PRESET.read_text())
    (project.root / "params.yaml").write_text(json.dumps(params))
    project.set("distill.seed", 20)
    project.set("registry.smoke", 0)  # a toy paints nothing
    gate = {"limits": {"fd_shapes:real": 30.0}, "target": {"fd_shapes:real": 0.0}}
    project.set("registry.gate", [{"steps": 4, "guards": {"attributes": 0.05}} | gate])
    ignored = ("/data/", "/artifacts/", "/.checkpoints/", "/.mlflow/", "/.prefect/")
    (project.root / ".gitignore").write_text("\n".join(ignored) + "\n")
    project.commit("The toy project")
    return project
