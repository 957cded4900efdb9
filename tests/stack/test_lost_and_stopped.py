"""What is lost is found, and what shall end ends: a dead machine, a person's click, a deadline.

One team all along; each test goes on where the one before has ended.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import pytest
from team import FINAL, Run, Team, awaited, gone
from team_stack import Stack

LOST = 90
"""Seconds without a sign of life."""
GPUS = ("worker-gpu", "worker-gpu-2")
SUBJECT = """
  transfer:
    cmd: python toy.py transfer plain
    params: [transfer.subjects.plain]
    deps: [artifacts/adapter]
    outs: [artifacts/transfer/images/plain]
    meta: {flow: transfer, pool: gpu}
  transfer-score:
    cmd: python toy.py transfer_score plain
    deps: [artifacts/transfer/images/plain, artifacts/scores/scores.json]
    outs: [artifacts/transfer/scores/plain]
    meta: {flow: transfer}
  transfer-report:
    cmd: python toy.py transfer_report
    deps: [artifacts/transfer/scores]
    outs: [artifacts/transfer/report]
    meta: {flow: transfer}
"""


@pytest.fixture(scope="module")
def team(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """A team whose adapter is tried on one subject, too."""
    team = Team(stack, tmp_path_factory.mktemp("team"), "stopped")
    graph = team.project.root / "dvc.yaml"
    looked = "    outs:\n      - data/inventory/source.json: {persist: true}\n"
    subjects = "      - data/inventory/transfer: {persist: true}\n"
    assert looked in graph.read_text()
    graph.write_text(graph.read_text().replace(looked, looked + subjects) + SUBJECT)
    team.first = team.publish("A subject", transfer__subjects={"plain": {}}, transfer__map=None)
    with team.at_work():
        team.deploy("--lost-after", str(LOST))
        yield team


def standing(team: Team, revision: str) -> tuple[Run, list[psutil.Process]]:
    """Start a retrain; return it and what computes for it, while its training stands still."""
    team.started()
    team.hold(*GPUS)
    run = team.retraining(revision)
    return run, team.family(team.training(run, *GPUS))


def stages(team: Team) -> list[Run]:
    """Return the runs of stages that have not ended."""
    return [run for run in team.runs("run-stage") if run["state_type"] not in FINAL]


def taken(team: Team) -> Run:
    """Return a run that a worker has taken, who died before it began."""
    (deployment,) = team.ask("deployments/filter", {"deployments": {"name": {"any_": ["hourly"]}}})
    details = {"scheduled_time": "2100-01-01T00:00:00Z"}  # for a worker that lives
    later = {"state": {"type": "SCHEDULED", "state_details": details}}
    run: Run = team.ask(f"deployments/{deployment['id']}/create_flow_run", later)
    team.ask(f"flow_runs/{run['id']}/set_state", {"state": {"type": "PENDING"}, "force": True})
    return run


def test_a_run_whose_machine_dies_is_found_and_its_training_is_taken_up(team: Team) -> None:
    run, _ = standing(team, team.first)
    unbegun = taken(team)
    team.stack.kill("worker-cpu")  # with all that it runs: nobody is left who could say so
    for lost in (run, unbegun):
        assert team.end(lost) == ("CRASHED", f"no sign of life for {LOST} s: its machine is gone")
    team.employ("worker-cpu")
    again = team.retraining(team.first)
    awaited(lambda: team.is_(again, "RUNNING"), "the run after")
    team.release(*GPUS)
    assert team.end(again)[0] == "COMPLETED"
    assert team.started().count("distill") == 1
    assert [version.version for version in team.versions()] == ["1"]


def test_the_adapter_is_tried_elsewhere_by_the_workers(team: Team) -> None:
    run = team.begun(sys.executable, "-m", "flows.transfer", "--isolated")
    said, errors = run.communicate()
    assert run.returncode == 0, said + errors
    assert team.started() == ["transfer plain", "transfer_report", "transfer_score plain"]
    assert "plain: its own base, for comparison; the adapter at 4 steps" in said
    (version,) = team.versions()
    stored = team.mlflow.list_artifacts(version.run_id, "transfer")
    assert {file.path for file in stored} == {"transfer/plain", "transfer/report"}


def cancel(team: Team, run: Run) -> None:
    """Do what the button on a run's page does."""
    wanted: dict[str, Any] = {"type": "CANCELLING", "name": "Cancelling"}
    team.ask(f"flow_runs/{run['id']}/set_state", {"state": wanted})


def test_who_cancels_a_run_frees_its_device(team: Team) -> None:
    run, family = standing(team, team.publish("Another seed", distill__seed=30))
    cancel(team, run)
    assert gone(family)
    assert team.end(run)[0] == "CANCELLED"
    awaited(lambda: not stages(team), "the end of all stages")
    team.release(*GPUS)


def test_who_cancels_a_stage_ends_its_run_in_one_line(team: Team) -> None:
    run, family = standing(team, team.publish("One more", distill__seed=31))
    (stage,) = stages(team)
    cancel(team, stage)
    assert gone(family)
    assert team.end(run) == ("FAILED", "distill: cancelled in Prefect")
    team.release(*GPUS)


def test_a_training_ends_at_its_deadline_and_is_not_sent_again(team: Team) -> None:
    graph = team.project.root / "dvc.yaml"
    meta = "    meta: {pool: gpu}\n"
    assert graph.read_text().count(meta) == 1
    graph.write_text(graph.read_text().replace(meta, "    meta: {pool: gpu, deadline: 60}\n"))
    run, family = standing(team, team.publish("In a minute", distill__seed=32))
    assert team.end(run) == ("FAILED", "distill: still running after 60 s")
    assert gone(family)
    assert team.started().count("distill") == 1
    team.release(*GPUS)


def test_a_question_is_not_lost_though_nobody_answers(team: Team) -> None:
    (asked,) = team.runs("promote")
    since = datetime.fromisoformat(asked["start_time"])
    long = timedelta(seconds=LOST + 30)
    awaited(lambda: datetime.now(UTC) - since > long, "a question to be old")
    assert team.is_(asked, "PAUSED")
