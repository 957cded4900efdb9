"""A run that dies leaves no process behind, however it dies; says how to go on; and does."""

from __future__ import annotations

import signal
import subprocess
import time

import psutil
import pytest
from conftest import Project, copy_of
from mlflow import MlflowClient
from processes import with_word

COMMAND = ("-m", "flows.retrain")


@pytest.fixture(scope="module")
def project(fresh: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a project whose runs every test here interrupts."""
    return copy_of(fresh, tmp_path_factory.mktemp("interrupted") / "project")


def alive(family: list[psutil.Process]) -> list[psutil.Process]:
    """Wait a while for processes to end; return those that do not."""
    return psutil.wait_procs(family, timeout=30)[1]


def statuses(project: Project) -> list[str]:
    """Return the states of all MLflow runs, the latest first."""
    client = MlflowClient(f"sqlite:///{project.root / '.mlflow' / 'mlflow.db'}")
    return [run.info.status for run in client.search_runs(["1"])]


def wait_for_its_run(project: Project, flow: subprocess.Popen[str]) -> None:
    """Wait for the run in MLflow, which is made while the training goes on."""
    while statuses(project)[:1] != ["RUNNING"] and flow.poll() is None:
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("number", "status", "last"),
    [
        (signal.SIGINT, 130, "error: interrupted; nothing made is lost, run again to go on"),
        (signal.SIGTERM, 143, "error: terminated; nothing made is lost, run again to go on"),
        (signal.SIGKILL, -signal.SIGKILL, None),
    ],
)
def test_no_signal_leaves_survivors(
    project: Project, number: signal.Signals, status: int, last: str | None
) -> None:
    with project.standing_training(*COMMAND) as (run, family):
        assert with_word(family, "uvicorn")
        assert with_word(family, "toy.py")
        wait_for_its_run(project, run)
        run.send_signal(number)
        printed, _ = run.communicate(timeout=60)
        assert run.returncode == status
        assert alive(family) == []
        assert "Traceback" not in printed
        if last:
            assert printed.splitlines()[-1] == last
            assert statuses(project)[0] == "FAILED"


def test_a_killed_flow_leaves_no_survivors_and_the_next_run_goes_on(project: Project) -> None:
    with project.standing_training(*COMMAND) as (run, family):
        wait_for_its_run(project, run)
        *_, flow = with_word(family, "flows.command")  # the guard comes before it
        flow.kill()
        printed, _ = run.communicate(timeout=60)
        assert run.returncode == 128 + signal.SIGKILL
        assert alive(family) == []
        last = printed.splitlines()[-1]
        assert last.startswith("error: killed by signal 9 (SIGKILL); nothing made is lost")
        assert statuses(project)[0] == "RUNNING"

    project.started()
    again = project.start(*COMMAND)
    printed, _ = again.communicate(timeout=600)
    assert again.returncode == 0, printed
    started = project.started()
    assert "prepare" not in started
    assert {"inventory", "distill", "score", "report"} <= set(started)
    assert statuses(project)[:2] == ["FINISHED", "KILLED"]
