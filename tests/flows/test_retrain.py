"""The flow on a toy project: what runs, what does not, what is left, who is champion."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Done, Project, copy_of
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from flows import retrain as retraining
from flows import workspace
from flows.retrain import retrain
from lcm_lora.errors import UserError
from tasks.isolated.request import Request
from tasks.running.graph import plan

NAME = "lcm-lora-shapes"
Enter = Callable[[Project], None]


@pytest.fixture
def project(done: Done, enter: Enter, tmp_path: Path) -> Project:
    """Return a copy of the project after its first run, entered, with no stage noted as started."""
    own = copy_of(done.project, tmp_path / "project")
    own.started()
    enter(own)
    return own


def client(project: Project) -> MlflowClient:
    return MlflowClient(f"sqlite:///{project.root / '.mlflow' / 'mlflow.db'}")


def agrees_with_dvc(project: Project) -> bool:
    return json.loads(project.call("dvc", "status", "--json")) == {"inventory": ["always changed"]}


def test_first_run_runs_every_stage_and_leaves_only_the_lock(done: Done) -> None:
    notes = (done.project.root / ".checkpoints" / "started").read_text().splitlines()
    generated = {"generate teacher", "generate ddim", "generate champion"}
    others = {"inventory", "prepare", "distill", "select", "score", "decide", "report"}
    assert set(notes) == others | generated
    assert notes[:2] == ["inventory", "prepare"]
    assert notes[-3:] == ["score", "decide", "report"]
    assert done.project.call("git", "status", "--porcelain").split() == ["??", "dvc.lock"]
    assert agrees_with_dvc(done.project)


def test_curve_is_in_mlflow_while_the_stage_still_trains(done: Done) -> None:
    assert done.live_status == "RUNNING"
    assert done.live_steps == [1, 2]
    mlflow = client(done.project)
    (run,) = mlflow.search_runs(["1"])
    history = mlflow.get_metric_history(run.info.run_id, "train/loss")
    assert [metric.step for metric in history] == [1, 2, 3]


def test_version_leads_back_to_all_that_went_in(done: Done) -> None:
    mlflow = client(done.project)
    version = mlflow.get_model_version_by_alias(NAME, "champion")
    run = mlflow.get_run(version.run_id)
    lock = (done.project.root / "dvc.lock").read_text()
    assert version.tags["adapter_md5"] in lock
    assert version.tags["data_md5"] in lock
    assert version.tags["git_sha"] == done.project.call("git", "rev-parse", "HEAD").strip()
    assert version.tags["git_dirty"] == "false"
    assert version.tags["base_model"] == "team/base"
    assert version.tags["chosen_step"] == run.data.tags["chosen_step"] == "3"
    choice = mlflow.get_metric_history(run.info.run_id, "select/kid.real")
    assert [(row.step, row.value) for row in choice] == [(2, 2.0), (3, 1.0)]
    assert version.tags["evaluation"] == "protocol-0-1000"
    assert "nobody was champion" in version.tags["gate"]
    assert version.tags["judged_against"] == run.data.tags["decision_against"] == "nobody"
    assert run.data.tags["decision"] == "promote"
    assert len(version.tags["params_sha256"]) == 64
    assert run.data.params["distill.seed"] == "20"
    assert run.data.metrics["fd_shapes.real/adapter"] == 20.0
    (data,) = run.inputs.dataset_inputs
    assert data.dataset.source_type == "dvc"
    assert json.loads(data.dataset.source) == {
        "path": "data/shards",
        "md5": version.tags["data_md5"],
    }
    stored = {file.path for file in mlflow.list_artifacts(run.info.run_id, "report")}
    assert stored == {"report/index.html", "report/grid.png", "report/model_card.md"}
    first, *_, last = version.description.splitlines()
    assert (first, last) == ("# Toy", "And more, in the report.")
    assert 4900 < len(version.description) <= 5000
    assert run.info.run_name == "version 1: new champion, fd_shapes:real 20.0 in 4 steps"
    assert run.data.tags["mlflow.source.git.commit"] == version.tags["git_sha"]
    assert {"params.yaml", "dvc.lock", "scores"} <= {
        file.path for file in mlflow.list_artifacts(run.info.run_id)
    }


def test_second_run_only_looks_and_registers_nothing(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    state = retrain(return_state=True)
    assert state.is_completed()
    assert state.message == f"no new champion: {NAME} version 1 is the champion already"
    assert project.started() == ["inventory"]
    table = capfd.readouterr().out
    assert table.count("Unchanged") == 9
    assert table.count("Ran") == 1
    assert len(client(project).search_model_versions(f"name = '{NAME}'")) == 1
    (run,) = client(project).search_runs(["1"])
    history = client(project).get_metric_history(run.info.run_id, "fd_shapes.real/adapter")
    assert len(history) == 1


def test_changed_evaluation_reruns_what_follows_and_reverting_restores(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.set("score.seed", 5)
    assert retrain(return_state=True).is_completed()
    assert project.started() == ["inventory", "score", "decide", "report"]
    (version,) = client(project).search_model_versions(f"name = '{NAME}'")
    assert version.tags["evaluation"] == "protocol-5-1000"

    project.set("score.seed", 0)
    capsys.readouterr()
    assert retrain(return_state=True).is_completed()
    assert project.started() == ["inventory"]
    assert "Restored" in capsys.readouterr().out
    assert agrees_with_dvc(project)


def test_failing_stage_is_one_line_and_the_next_run_goes_on(
    project: Project,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    project.set("score.seed", 6)
    project.set("report.title", "bad")
    assert retraining.main([]) == 1
    printed = capfd.readouterr().err
    assert printed == "error: report: report.title is bad; choose another\n"
    logged = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert logged == ["Finished in state Failed('report.title is bad; choose another')"]
    assert project.started() == ["inventory", "score", "decide", "report"]
    assert (project.root / "artifacts" / "scores" / "scores.json").exists()

    project.set("report.title", "good")
    assert retrain(return_state=True).is_completed()
    assert project.started() == ["inventory", "report"]


def test_new_pictures_run_what_follows_and_a_touch_runs_nothing(project: Project) -> None:
    one = project.root / "source" / "one.txt"
    one.write_text(one.read_text())
    (project.root / "source" / "two.txt").write_text("two")
    assert retrain(return_state=True).is_completed()
    started = project.started()
    # The first look finds the pictures, so the champion, this very adapter, is looked at as well.
    assert started[:3] == ["inventory", "inventory", "prepare"]
    painted = {"generate teacher", "generate ddim", "generate champion"}
    assert set(started[3:]) == {"distill", "score", "decide", "report", *painted}
    assert len(started) == 3 + 7
    assert agrees_with_dvc(project)

    one.write_text(one.read_text())
    assert retrain(return_state=True).is_completed()
    assert project.started() == ["inventory"]
    project.call("dvc", "repro")
    assert project.started() == ["inventory"]


def test_what_dvc_has_run_by_itself_is_not_run_again(project: Project) -> None:
    (project.root / "source" / "two.txt").write_text("two")
    project.call("dvc", "repro")
    assert len(project.started()) == 7
    assert retrain(return_state=True).is_completed()
    assert project.started() == ["inventory"]


def test_a_version_names_the_commit_that_made_its_weights(project: Project) -> None:
    mlflow = client(project)
    first = mlflow.get_model_version_by_alias(NAME, "champion").tags["git_sha"]
    (project.root / "README.md").write_text("A commit that makes no weights.")
    second = project.commit("Another commit")
    mlflow.delete_registered_model(NAME)
    assert retrain(return_state=True).is_completed()
    assert project.started() == ["inventory"]
    version = mlflow.get_model_version_by_alias(NAME, "champion")
    assert version.tags["git_sha"] == first != second
    assert version.tags["git_dirty"] == "false"

    project.set("distill.checkpoint_every", 7)  # no weight depends on it
    (project.root / "README.md").write_text("Nor on this, which no commit has.")
    assert retrain(return_state=True).is_completed()
    # The champion, the same adapter as it turns out, is compared with itself: that is no news.
    judged = ["score", "decide", "report"]
    started = project.started()
    assert set(started) == {"inventory", "distill", "select", "generate champion", *judged}
    assert len(started) == 7
    (known,) = mlflow.search_model_versions(f"name = '{NAME}'")
    assert known.tags == version.tags
    again, run = mlflow.search_runs(["1"])
    assert (run.data.tags["decision"], run.data.tags["decision_against"]) == ("promote", "nobody")
    assert retrain(return_state=True).is_completed()
    assert project.started() == ["inventory"]
    assert known.run_id == run.info.run_id
    tags = ("mlflow.source.git.commit", "git_dirty")
    assert [run.data.tags[name] for name in tags] == [first, "false"]
    assert [again.data.tags[name] for name in tags] == [second, "true"]
    assert again.data.tags["candidates_sha256"] == run.data.tags["candidates_sha256"]
    assert run.data.tags["adapter_sha256"] == version.tags["adapter_sha256"]
    assert "adapter_sha256" not in again.data.tags


def test_another_choice_of_a_training_is_another_adapter_with_a_run_of_its_own(
    project: Project,
) -> None:
    mlflow = client(project)
    (first,) = mlflow.search_runs(["1"])
    project.set("select.steps", 2)
    assert retrain(return_state=True).is_completed()
    judged = ["score", "decide", "report"]
    started = project.started()  # the champion was this training's own, and is brought at once
    assert set(started[1:-3]) == {"select", "generate champion"}
    assert [started[0], *started[-3:]] == ["inventory", *judged]
    assert len(started) == 6
    versions = mlflow.search_model_versions(f"name = '{NAME}'")
    found = {v.tags["chosen_step"]: mlflow.get_run(v.run_id) for v in versions}
    assert found["3"].info.run_id == first.info.run_id != found["2"].info.run_id
    assert found["3"].data.metrics == first.data.metrics
    assert found["3"].data.metrics["fd_shapes.real/adapter"] == 20.0
    assert found["2"].data.metrics["fd_shapes.real/adapter"] == 25.0
    for run in found.values():
        history = mlflow.get_metric_history(run.info.run_id, "train/loss")
        assert [metric.step for metric in history] == [1, 2, 3]
    assert mlflow.get_model_version_by_alias(NAME, "champion").tags["chosen_step"] == "3"

    (worse,) = (version for version in versions if version.tags["chosen_step"] == "2")
    assert worse.tags["gate"].startswith("Distance to real pictures at 4 steps is worse than the")

    project.set("select.steps", 4)
    assert retrain(return_state=True).is_completed()
    assert project.started() == ["inventory", *judged]  # against itself: it is champion
    assert len(mlflow.search_runs(["1"])) == len(versions) == 2


@pytest.mark.parametrize(
    ("parameter", "path", "place"),
    [
        ("distill.seed", "artifacts/training/curve.jsonl", "distill: {}"),
        ("score.seed", "artifacts/scores/scores.json", "decide: artifacts/scores/scores.json"),
    ],
)
def test_a_damaged_file_of_a_stage_is_one_line(
    project: Project, capfd: pytest.CaptureFixture[str], parameter: str, path: str, place: str
) -> None:
    project.set(parameter, 30)
    project.damage(path, '{"step": 1, "lo')
    assert retraining.main([]) == 1
    printed = capfd.readouterr().err
    assert printed.startswith(f"error: {place.format(project.root / path)}: damaged")
    assert printed.count("\n") == 1
    assert retraining.main([]) == 1  # also when DVC has nothing to run any more
    assert f"{path}" in capfd.readouterr().err


def test_clone_with_pulled_data_has_nothing_to_run(
    done: Done, enter: Enter, tmp_path: Path
) -> None:
    origin, clone = copy_of(done.project, tmp_path / "origin"), Project(tmp_path / "clone")
    storage = tmp_path / "storage"
    origin.call("dvc", "remote", "add", "--default", "storage", str(storage))
    origin.call("dvc", "push")
    origin.commit("The lock")
    origin.call("git", "clone", "--quiet", ".", str(clone.root))
    assert any(stage.changes for stage in plan(clone.root))
    clone.call("dvc", "pull")
    assert [stage.name for stage in plan(clone.root) if stage.changes] == ["inventory"]

    enter(clone)
    assert retrain(return_state=True).is_completed()
    assert clone.started() == ["inventory"]
    version = client(clone).get_model_version_by_alias(NAME, "champion")
    history = client(clone).get_metric_history(version.run_id, "train/loss")
    assert [metric.step for metric in history] == [1, 2, 3]
    assert clone.call("git", "status", "--porcelain") == ""


def test_a_missing_graph_is_one_line(
    fresh: Project,
    prefect_server: None,
    enter: Enter,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    project = copy_of(fresh, tmp_path / "project")
    (project.root / "dvc.yaml").unlink()
    enter(project)
    assert retraining.main([]) == 1
    assert capfd.readouterr().err.startswith(f"error: {project.root / 'dvc.yaml'}: no such file")
    assert not (project.root / ".mlflow").exists()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("registry.gate", [{"steps": 3}], "registry.gate.0: the adapter is not painted at 3"),
        (
            "registry.gate",
            [{"steps": 4, "target": {"beauty": 0}}],
            "registry.gate.0.target: the table will hold no beauty",
        ),
        ("distill.stepz", 3, "distill.stepz: no such parameter"),
    ],
)
def test_wrong_parameters_end_before_any_work(
    fresh: Project,
    prefect_server: None,
    enter: Enter,
    tmp_path: Path,
    name: str,
    value: object,
    message: str,
) -> None:
    project = copy_of(fresh, tmp_path / "project")
    project.set(name, value)
    enter(project)
    state = retrain(return_state=True)
    assert message in str(state.message)
    assert project.started() == []


def test_a_style_that_the_registry_has_not_ends_before_any_work(project: Project) -> None:
    project.set("generate.painters.ddim.adapters", {"models:/none@style-ink": 1.0})
    state = retrain(return_state=True)
    assert str(state.message).startswith("models:/none@style-ink: the registry does not have it")
    assert project.started() == []


def test_unreachable_mlflow_is_one_line_before_any_work(
    fresh: Project,
    prefect_server: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    project = copy_of(fresh, tmp_path / "project")
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert retraining.main([]) == 1
    last = capfd.readouterr().err.rstrip().splitlines()[-1]
    assert last.startswith("error: MLflow at http://127.0.0.1:9 does not answer")
    assert project.started() == []


def test_mlflow_that_is_lost_in_the_middle_is_one_line(project: Project) -> None:
    line = r"^MLflow did not take or give something \(MlflowException: gone\); run again$"
    with pytest.raises(UserError, match=line), workspace.opened(Request()):
        raise MlflowException("gone")
    shutil.rmtree(project.root)
