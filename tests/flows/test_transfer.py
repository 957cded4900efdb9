"""The transfer flow on the toy project: its own stages, and one run of MLflow to log to."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Done, Project, copy_of
from mlflow import MlflowClient

from flows.retrain import retrain
from flows.transfer import transfer
from lcm_lora.locks import hold

STAGES = """
  transfer:
    foreach: ${transfer.subjects}
    do:
      cmd: python toy.py transfer ${key}
      params: ["transfer.subjects.${key}"]
      deps: [artifacts/adapter, "data/looked/${key}.json"]
      outs: ["artifacts/transfer/images/${key}"]
      meta: {flow: transfer}
  transfer-score:
    foreach: ${transfer.subjects}
    do:
      cmd: python toy.py transfer_score ${key}
      deps: ["artifacts/transfer/images/${key}"]
      outs: ["artifacts/transfer/scores/${key}"]
      meta: {flow: transfer}
  transfer-report:
    cmd: python toy.py transfer_report
    deps: [artifacts/transfer/scores]
    outs: [artifacts/transfer/report]
    meta: {flow: transfer}
"""
OWN = ["transfer plain", "transfer_score plain", "transfer_report"]


@pytest.fixture
def project(done: Done, enter: Callable[[Project], None], tmp_path: Path) -> Project:
    """Return a copy of the project after its first run, entered, with a subject to try."""
    own = copy_of(done.project, tmp_path / "project")
    with (own.root / "dvc.yaml").open("a") as file:
        file.write(STAGES)
    place = own.root / "data" / "looked" / "plain.json"
    place.parent.mkdir(parents=True)
    place.write_text("one")
    own.set("transfer.subjects", {"plain": {}})
    own.set("transfer.map", None)
    own.started()
    enter(own)
    return own


def test_the_flow_runs_its_stages_alone_and_logs_once(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    for started in (["inventory", *OWN], ["inventory"]):
        state = transfer(return_state=True)
        assert state.is_completed(), state.message
        assert project.started() == started
    said = capfd.readouterr().out
    assert "plain: its own base, for comparison; the adapter at 4 steps" in said
    assert "logged to the run of lcm-lora-shapes version 1" in said
    client = MlflowClient(f"sqlite:///{project.root / '.mlflow' / 'mlflow.db'}")
    run = client.get_run(client.get_model_version("lcm-lora-shapes", "1").run_id)
    history = client.get_metric_history(run.info.run_id, "transfer/plain/attributes/adapter")
    assert [(metric.step, metric.value) for metric in history] == [(4, 0.9)]
    stored = {file.path for file in client.list_artifacts(run.info.run_id, "transfer")}
    assert stored == {"transfer/plain", "transfer/report"}
    # What changes outside makes its own stages due, by either flow that is asked for them, and
    # either says what came of them.
    (project.root / "data" / "looked" / "plain.json").write_text("another")
    assert retrain(return_state=True).is_completed()
    assert project.started() == ["inventory"]
    project.set("retrain.transfer", True)
    assert retrain(return_state=True).is_completed()
    assert project.started() == ["inventory", OWN[0]], "painted anew to the same bytes"
    assert "plain: its own base, for comparison; the adapter at 4 steps" in capfd.readouterr().out


def is_awaited(lock: Path) -> bool:
    """Tell whether somebody waits for who holds a lock."""
    place = f":{lock.stat().st_ino} "
    return any("->" in line and place in line for line in Path("/proc/locks").open())


def test_a_flow_waits_for_another_in_the_folder_and_trains_nothing(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    """It goes by the parameters as they are when its turn comes."""
    lock = project.root / ".checkpoints" / "flow.lock"
    lock.touch()
    held, noted = hold(lock), list[str]()
    assert held is not None

    def let_go() -> None:
        end = time.monotonic() + 600
        while not is_awaited(lock) and time.monotonic() < end:
            time.sleep(0.1)
        noted.extend(project.noted())
        project.set("distill.seed", 21)
        os.close(held)

    other = threading.Thread(target=let_go)
    other.start()
    state = transfer(return_state=True)
    other.join()
    assert state.is_failed()
    assert (
        state.message
        == "artifacts/adapter: due to be trained anew; run `python -m flows.retrain` first"
    )
    assert "waiting for another flow in this folder to end\n" in capfd.readouterr().err
    assert noted == []
    assert project.started() == ["inventory"]


def test_without_a_subject_there_is_nothing_to_try(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    project.set("transfer.subjects", {})
    assert transfer(return_state=True).is_completed()
    said = "transfer.subjects: empty, so nothing is tried; name a base or styles to try\n"
    assert said in capfd.readouterr().out
    assert project.started() == []
