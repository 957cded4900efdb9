"""What the guides tell to type is typed, in their order, by a team with a project of a moment.

Its runs are in a shared workspace, where a stage takes a second: isolated ones are held to tests of
their own. What a project of real pictures, another engine or another test is needed for is named
below, with the reason; that it exists with these options is seen in tests/docs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from guides import blocks, typed
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled
from ruamel.yaml import YAML
from team_stack import Stack
from toy_project import ROOT, Project, toy

NAME = "guides"
UNDER_WAY = FlowRunFilter.model_validate({"state": {"type": {"any_": ["PENDING", "RUNNING"]}}})
WAITING = FlowRunFilter.model_validate({"state": {"type": {"any_": ["PAUSED"]}}})
"""Runs that wait for a person."""
NOT_TYPED = {
    "git clone": "the project is here already",
    "make setup": "so is its environment",
    "python -m infra.local down": "test_stack.py does, and starts it again",
    "python -m infra.local restore": "the same",
    "prefect worker start": "they never end; infra.local has just started them with these words",
    "CUDA_VISIBLE_DEVICES": "the same, for GPUs that there are not",
    "python -m flows.retrain --isolated": "test_isolated.py does, in minutes",
    "python -m flows.deploy --notify": "the block's address is the team's; tests/flows has its own",
    "python -m flows.deploy --webhook": "nobody answers there; test_webhooks.py has its own",
    "python -m flows.deploy --pools": "these pools are there, of another kind",
    "python -m flows.publish": "tests/tasks has it, on real files",
    "lcm-lora doctor": "a project of a moment has no pictures to look at; tests/test_check.py has",
    "lcm-lora drift": "the same; tests/drift has",
    "python -m flows.drift": "the same",
    "lcm-lora encode": "the same; tests/data has",
    "docker": "there is no engine here",
    "mlflow models serve": "nothing here paints; test_served_picture.py serves what does",
    "curl --silent --show-error --fail localhost": "the same",
    "python -c": "the same",
}


class Reader:
    """Somebody at a shell, in the project's folder."""

    def __init__(self, project: Project, folder: Path) -> None:
        who = {
            f"GIT_{role}_{what}": "toy@example.com"
            for role in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        }
        own = {
            "PYTHONPATH": str(ROOT),
            "PREFECT_HOME": str(folder / "prefect"),
        }
        self.project, self._folder = project, folder
        self._environment = {**os.environ, **who, **own}
        self.instead = {"lcm-lora-shapes": NAME}
        """Words of a guide that are others here."""

    def follow(self, guide: str) -> None:
        """Type what a guide says, block by block; each must end well."""
        self.type(line for block in blocks(guide) for line in typed(block))

    def type(self, lines: Iterator[str]) -> None:
        """Type lines into one shell, in which the project's environment is active."""
        wanted = [self._here(line) for line in lines if not line.startswith((*NOT_TYPED, "#"))]
        script = self._folder / "typed.sh"
        known = ["source .venv/bin/activate", "set -a; . .stack/env; set +a"]
        script.write_text("\n".join([*known, *wanted]))
        done = subprocess.run(
            # -v says what is typed; -x would say the passwords, too.
            ["bash", "-euv", "-o", "pipefail", str(script)],
            cwd=self.project.root,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-6000:]

    def _here(self, line: str) -> str:
        for word, other in self.instead.items():
            line = re.sub(rf"\b{word}\b", other, line)
        return line


@pytest.fixture
def project(stack: Stack, tmp_path: Path) -> Iterator[Project]:
    """A clone of a team's project, whose stack is already up; nothing is left of it there."""
    made = toy(tmp_path / "project")
    for name in ("registry.name", "registry.experiment"):
        made.set(name, NAME)
    shutil.copytree(ROOT / "infra" / "pools", made.root / "infra" / "pools")
    wanted = YAML(typ="safe").load((ROOT / "prefect.yaml").read_text())
    for one in wanted["deployments"]:
        one.pop("triggers", None)  # tests/flows has it
        if "request" in one.get("parameters", {}):
            one["parameters"]["request"] = {"workspace": "shared"}
    (made.root / "prefect.yaml").write_text(json.dumps(wanted))
    for name, place in {".venv": ROOT / ".venv", ".stack": stack.folder}.items():
        (made.root / name).symlink_to(place)
    (made.root / ".git" / "info" / "exclude").write_text("/.venv\n/.stack\n*.tar\n*.html\n")
    (made.root / "pictures").mkdir()
    (made.root / "pictures" / "one.txt").write_text("a picture")
    made.commit("What a team has")
    made.call("git", "rm", "--quiet", "--cached", "-r", "pictures")
    made.call("git", "init", "--quiet", "--bare", str(tmp_path / "origin.git"))
    made.call("git", "remote", "add", "origin", str(tmp_path / "origin.git"))
    made.call("git", "push", "--quiet", "--set-upstream", "origin", "main")
    yield made
    for worker in ("worker-cpu", "worker-gpu"):
        stack.dismiss(worker)


@pytest.fixture
def others(stack: Stack) -> Iterator[set[UUID]]:
    """This process is a client of the stack, where others' runs may wait; yield which.

    What was deployed there is gone afterwards, and nothing of it runs: else it would hold the
    queue, in which other teams' runs wait for their turn, until it is found to be lost.
    """
    there = {
        PREFECT_API_URL: stack.environment["PREFECT_API_URL"],
        PREFECT_API_AUTH_STRING: stack.environment["PREFECT_API_AUTH_STRING"],
    }
    with temporary_settings(there), get_client(sync_client=True) as client:
        yield {run.id for run in client.read_flow_runs(flow_run_filter=WAITING)}
        for run in client.read_flow_runs(flow_run_filter=UNDER_WAY):
            client.set_flow_run_state(run.id, Cancelled(), force=True)
        for deployment in client.read_deployments():
            client.delete_deployment(deployment.id)


def make_stack() -> str:
    """Return what `make stack` does once the environment is set up."""
    told = subprocess.check_output(
        ["make", "--no-print-directory", "--dry-run", "stack"], cwd=ROOT, text=True
    )
    return told.splitlines()[-1]


def paused(others: set[UUID]) -> str:
    """Return the id of the run that waits for a person, once it does."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        with get_client(sync_client=True) as client:
            waiting = {run.id for run in client.read_flow_runs(flow_run_filter=WAITING)}
            if new := waiting - others:
                return str(new.pop())
        time.sleep(0.5)
    raise AssertionError("nobody is asked")


def test_a_team_follows_the_guides(
    stack: Stack,
    project: Project,
    others: set[UUID],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader = Reader(project, tmp_path)
    reader.instead["make stack"] = make_stack()
    reader.follow("team")
    reader.follow("your-data")
    reader.follow("your-base")
    project.set("distill.seed", 10)  # a better adapter, of which a person decides
    project.set("registry.approval", {"by": "person", "days": 0.1})
    project.commit("More data")
    reader.type(iter(["prefect deployment run retrain/nightly --watch"]))
    # Who cancels a run waits for its end before it is started again.
    retry = "prefect flow-run retry ID"
    reader.instead[retry] = f"until {retry}; do test $SECONDS -lt 200; sleep 1; done"
    reader.instead["ID"] = paused(others)
    reader.follow("promote")
    for name in ("when-it-breaks", "scale-out", "serving"):
        reader.follow(name)
    reader.type(iter(["prefect work-pool clear-concurrency-limit gpu"]))
    stack.admit(monkeypatch)
    client = MlflowClient()
    assert client.get_registered_model(NAME).aliases["champion"] == "2"
    assert "Anna" in (project.root / "journal.html").read_text()
    assert (project.root / "backup.tar").stat().st_size
