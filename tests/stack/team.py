"""A team on the stack: a toy project with its origin and remote, and a clone for each worker."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
import psutil
import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from processes import variable
from team_stack import Stack
from toy_project import ROOT, Project, toy

from infra.local import settings

PATIENCE = 240.0
"""Seconds for whatever is waited for."""
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
_WORKERS = {"worker-cpu": ("cpu", 1), "worker-gpu": ("gpu", 1), "worker-gpu-2": ("gpu", 2)}

_Found = TypeVar("_Found")
Run = dict[str, Any]
"""A flow run as Prefect's server tells of it."""


def awaited(look: Callable[[], _Found | None], what: str) -> _Found:
    """Return what is found as soon as there is something."""
    end = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < end, f"waited for {what}"
        time.sleep(0.2)
    return found


class Team:
    """People and workers with a project; everything that they share lies on the stack.

    Attributes:
        name: Of the registered model.
        project: Somebody's clone, in which nothing runs.
        clones: The worker's clones, by the names of those.
        environment: Of whoever uses the stack.
    """

    def __init__(self, stack: Stack, folder: Path, name: str) -> None:
        """Make a project in an empty folder, whose model has a name that is its own."""
        self.stack, self.folder, self.name = stack, folder, name
        self.environment = {
            **os.environ,
            **stack.environment,
            "PREFECT_HOME": str(folder / "prefect"),
            "PYTHONPATH": str(ROOT),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        self._server = httpx.Client(
            base_url=stack.environment["PREFECT_API_URL"],
            auth=tuple(stack.environment["PREFECT_API_AUTH_STRING"].split(":")),
            timeout=30,
        )
        self._others = {run["id"] for run in self.ask("flow_runs/filter", {})}
        self.project = toy(folder / "project")
        self.project.set("registry.name", name)
        self.project.set("registry.experiment", name)
        self.project.set("registry.approval", {"by": "person", "days": 3})
        bucket = settings.BUCKETS[settings.WORKERS]
        self.project.call("dvc", "remote", "add", "--default", "store", f"s3://{bucket}/{name}")
        origin = str(folder / "origin.git")
        self.project.call("git", "init", "--quiet", "--bare", "--initial-branch", "main", origin)
        self.project.call("git", "remote", "add", "origin", origin)
        self.first = self.publish("The first data")
        self.clones: dict[str, Project] = {}
        for worker in _WORKERS:
            self.project.call("git", "clone", "--quiet", origin, str(folder / worker))
            self.clones[worker] = Project(folder / worker)

    def deploy(self, *options: str) -> None:
        """Bring the server to what the project wants, and take the schedules off: no clock here."""
        self.done(sys.executable, "-m", "flows.deploy", *options, place=ROOT)
        for deployment in self.ask("deployments/filter", {}):
            if deployment["schedules"]:
                self.ask(f"deployments/{deployment['id']}/pause_deployment", None)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[Self]:
        """Deploy the project, and keep all workers at work in the block; we are clients too."""
        self.deploy()
        for name in self.clones:
            self.employ(name)
        with pytest.MonkeyPatch.context() as patch:
            self.stack.admit(patch)
            yield self
        for name in self.clones:
            self.stack.dismiss(name)

    def employ(self, name: str) -> None:
        """Have a worker work in its clone."""
        pool, number = _WORKERS[name]
        assert self.stack.worker(pool, self.clones[name].root, number) == name

    def publish(self, message: str, **changes: Any) -> str:
        """Commit and push, after other values for parameters, such as `distill__seed`."""
        for name, value in changes.items():
            self.project.set(name.replace("__", "."), value)
        (self.project.root / "news.txt").write_text(message)
        commit = self.project.commit(message).strip()
        self.project.call("git", "push", "--quiet", "origin", "HEAD:main")
        return commit

    def begun(self, *command: str, place: Path | None = None) -> subprocess.Popen[str]:
        """Start a command as somebody of the team, in the project's folder or another."""
        return subprocess.Popen(
            command,
            cwd=place or self.project.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def done(self, *command: str, place: Path | None = None) -> str:
        """Run a command so, which must succeed; return what it says."""
        run = self.begun(*command, place=place)
        said, errors = run.communicate()
        assert run.returncode == 0, said + errors
        return said

    # --- Prefect, as its pages and other tools speak with it ---

    def ask(self, what: str, about: Any) -> Any:
        """POST to Prefect's server."""
        answer = self._server.post(what, json=about)
        assert answer.is_success, f"{what}: {answer.text}"
        return answer.json() if answer.content else None

    def announce(self, revision: str) -> None:
        """Say that a revision is published, as any tool can."""
        event = {
            "id": str(uuid.uuid4()),
            "occurred": datetime.now(UTC).isoformat(),
            "event": "dataset.published",
            "resource": {"prefect.resource.id": "lcm-lora.project"},
            "payload": {"revision": revision},
        }
        self.ask("events", [event])

    def runs(self, flow: str) -> list[Run]:
        """Return the team's runs of a flow that were asked for, the first one first."""
        asked = {"flows": {"name": {"any_": [flow]}}, "sort": "EXPECTED_START_TIME_ASC"}
        runs = [run for run in self.ask("flow_runs/filter", asked) if not run["auto_scheduled"]]
        return [run for run in runs if run["id"] not in self._others]

    def new(self, flow: str, known: list[Run]) -> Run:
        """Wait for a run that is not among those known."""
        ids = {run["id"] for run in known}
        return awaited(
            lambda: next((r for r in self.runs(flow) if r["id"] not in ids), None),
            f"a run of {flow}",
        )

    def retraining(self, revision: str) -> Run:
        """Announce a revision; return the run that this starts."""
        known = self.runs("retrain")
        self.announce(revision)
        return self.new("retrain", known)

    def start(self, deployment: str, **parameters: Any) -> Run:
        """Start a run, as the button on a deployment's page does."""
        answer = self._server.get(f"deployments/name/{deployment}")
        asked = {"parameters": parameters}
        return dict(self.ask(f"deployments/{answer.json()['id']}/create_flow_run", asked))

    def is_(self, run: Run, *states: str) -> Run | None:
        """Return a run as it is now, if it is in one of some states."""
        now = dict(self._server.get(f"flow_runs/{run['id']}").json())
        return now if now["state_type"] in states else None

    def end(self, run: Run) -> tuple[str, str]:
        """Wait for the end of a run; return its kind, and what the run says."""
        found = awaited(lambda: self.is_(run, *FINAL), f"the end of {run['name']}")
        return found["state_type"], found["state"]["message"]

    def page(self, run: Run) -> str:
        """Return the verdict on a run's page, in Markdown."""
        of_it = {"flow_run_id": {"any_": [run["id"]]}, "type": {"any_": ["markdown"]}}
        (found,) = self.ask("artifacts/filter", {"artifacts": of_it})
        return str(found["data"])

    def answer(self, run: Run, **word: Any) -> str:
        """Answer a run that waits for a person; return what the server says to it."""
        form = f"flow_runs/{run['id']}/input/paused-approval-schema"
        awaited(lambda: self._server.get(form).is_success, f"{run['name']} to ask")
        return str(self.ask(f"flow_runs/{run['id']}/resume", {"run_input": word})["status"])

    # --- MLflow ---

    @property
    def mlflow(self) -> MlflowClient:
        return MlflowClient(self.stack.environment["MLFLOW_TRACKING_URI"])

    def versions(self) -> list[ModelVersion]:
        """Return the versions of the registered model, the first one first."""
        found = self.mlflow.search_model_versions(f"name = '{self.name}'")
        return sorted(found, key=lambda version: int(version.version))

    def aliases(self) -> dict[str, int]:
        found = self.mlflow.get_registered_model(self.name).aliases
        return {alias: int(version) for alias, version in found.items()}

    # --- workers, and what they do ---

    def started(self) -> list[str]:
        """Return the stages that workers have started since the last call, sorted.

        But for the first look, which every run takes anew.
        """
        lines = [line for clone in self.clones.values() for line in clone.started()]
        return sorted(line for line in lines if line != "inventory")

    def hold(self, *names: str) -> None:
        """Have trainings stand still at workers."""
        for name in names:
            hold = self.clones[name].root / ".checkpoints" / "hold"
            hold.parent.mkdir(exist_ok=True)
            hold.touch()

    def release(self, *names: str) -> None:
        """Have them go on."""
        for name in names:
            (self.clones[name].root / ".checkpoints" / "hold").unlink()

    def training(self, run: Run, *names: str) -> str:
        """Wait until one of some workers trains for a run; return its name."""

        def look() -> str | None:
            ended = self.is_(run, *FINAL)
            assert not ended, ended["state"]["message"]
            return next((name for name in names if "distill" in self.clones[name].noted()), None)

        return awaited(look, "a training")

    def family(self, name: str) -> list[psutil.Process]:
        """Return the processes that a worker has started, the eldest first."""
        return list(self.stack.process(name).children(recursive=True))

    def engine(self, run: Run) -> psutil.Process:
        """Return the process in which a worker of the pool `cpu` runs a flow."""
        (engine,) = (
            one
            for one in self.stack.process("worker-cpu").children()
            if variable(one, "PREFECT__FLOW_RUN_ID") == run["id"]
        )
        return engine

    def processes(self) -> set[psutil.Process]:
        """Return all processes that workers are or have started, orphans too."""
        return {one for one in psutil.process_iter() if self._is_ours(one)}

    def _is_ours(self, process: psutil.Process) -> bool:
        return variable(process, "LCM_LORA_PROJECT").startswith(str(self.folder))


def gone(family: list[psutil.Process]) -> bool:
    """Wait until no process of a family is left."""
    return not psutil.wait_procs(family, timeout=60)[1]
