"""A project whose stages take a moment, as a git repository with a DVC remote, and clones of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

PRESET = Path(__file__).parents[2] / "lcm_lora" / "presets" / "shapes.yaml"
STAGES = Path(__file__).with_name("stages.yaml")


@dataclass(frozen=True)
class Project:
    """A clone, and what one does in it."""

    root: Path

    def call(self, *command: str) -> str:
        """Run a command in the folder; it must succeed."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            command,
            cwd=self.root,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def commit(self, message: str) -> str:
        """Commit all there is; return the commit."""
        self.call("git", "add", ".")
        who = ("-c", "user.name=Toy", "-c", "user.email=toy@example.com")
        self.call("git", *who, "commit", "--quiet", "--message", message)
        return self.call("git", "rev-parse", "HEAD")

    def clone(self, folder: Path) -> Project:
        """Return a clone, such as a worker has."""
        self.call("git", "clone", "--quiet", str(self.root), str(folder))
        return Project(folder)

    def copy(self, folder: Path) -> Project:
        """Return a copy of the project and its remote, in a folder."""
        for name in ("project", "remote"):
            shutil.copytree(self.root.parent / name, folder / name, symlinks=True)
        return Project(folder / "project")

    def started(self) -> list[str]:
        """Return the stages that were run here since the last call, sorted."""
        notes = self.root / ".checkpoints" / "started"
        lines = notes.read_text().splitlines() if notes.exists() else []
        notes.unlink(missing_ok=True)
        return sorted(lines)


def make_project(folder: Path) -> Project:
    """Make the project, its first commit, and an empty remote beside it."""
    project = Project(folder / "project")
    project.root.mkdir(parents=True)
    (folder / "remote").mkdir()
    project.call("git", "init", "--quiet", "--initial-branch", "main")
    project.call("dvc", "init", "--quiet")
    project.call("dvc", "remote", "add", "--default", "store", "../remote")
    shutil.copy(STAGES, project.root / "dvc.yaml")
    shutil.copy(PRESET, project.root / "params.yaml")
    (project.root / "source.txt").write_text("one\n")
    (project.root / "note.sh").write_text(
        "mkdir -p .checkpoints\n"
        'echo "$*" >> .checkpoints/started\n'
        "while [ -e .checkpoints/hold ]; do sleep 0.1; done\n"
    )
    ignored = ("/data/", "/artifacts/", "/.checkpoints/", "/.mlflow/", "/.prefect/")
    (project.root / ".gitignore").write_text("\n".join(ignored) + "\n")
    project.commit("The project")
    return project


def entries(project: Path) -> dict[str, Any]:
    """Return the entries of a dvc.lock by stage."""
    return dict(YAML(typ="safe").load((project / "dvc.lock").read_text())["stages"])
