"""A toy project with real tools: git, DVC, Prefect's own server, MLflow on SQLite."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import warm_start
from mlflow.tracking._tracking_service import utils
from toy_project import ROOT as ROOT
from toy_project import Project, copy_of, toy


@pytest.fixture
def client(prefect_server: None) -> Iterator[Any]:
    """Yield a client of the tests' own Prefect server."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as opened:
        yield opened


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a committed project that has never run; do not change it."""
    return toy(tmp_path_factory.mktemp("fresh") / "project")


@pytest.fixture
def enter(monkeypatch: pytest.MonkeyPatch, warm_starts: None) -> Callable[[Project], None]:
    """Return a function that makes a project the place of all that follows."""

    def go(project: Project) -> None:
        monkeypatch.chdir(project.root)
        database = project.root / ".mlflow" / "mlflow.db"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
        # Copies of a project hold runs of equal ids, and MLflow remembers the places of ids.
        monkeypatch.setattr(utils, "_artifact_repos_cache", OrderedDict())

    return go


@dataclass
class Done:
    """A project after its first run, and what MLflow showed during its training."""

    project: Project
    live_steps: list[int]
    live_status: str


@pytest.fixture(scope="session")
def done(
    fresh: Project, prefect_server: None, loaded: Path, tmp_path_factory: pytest.TempPathFactory
) -> Done:
    """Return a project whose first run has ended well; do not change it."""
    from flows.retrain import retrain

    project = copy_of(fresh, tmp_path_factory.mktemp("done") / "project")
    uri = f"sqlite:///{project.root / '.mlflow' / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor() as pool:
        patch.chdir(project.root)
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        for name, value in warm_start.environment(loaded).items():
            patch.setenv(name, value)
        seen = pool.submit(hold_until_curve_is_seen, project, uri)
        state = retrain(return_state=True)
        assert state.is_completed(), state.message
        return Done(project, *seen.result())


def hold_until_curve_is_seen(project: Project, uri: str) -> tuple[list[int], str]:
    """Keep the training from ending until its curve is in MLflow; return steps and run status."""
    from mlflow import MlflowClient

    notes = project.root / ".checkpoints"
    hold, started = notes / "hold", notes / "started"
    notes.mkdir(exist_ok=True)
    hold.touch()
    end = time.monotonic() + 600
    try:
        while time.monotonic() < end:
            time.sleep(0.5)
            if not started.exists() or "distill" not in started.read_text():
                continue
            client = MlflowClient(uri)
            for run in client.search_runs(["1"]):
                if "train/loss" in run.data.metrics:
                    history = client.get_metric_history(run.info.run_id, "train/loss")
                    return [metric.step for metric in history], run.info.status
        return [], "never seen"
    finally:
        hold.unlink()
