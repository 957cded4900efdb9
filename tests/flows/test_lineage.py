"""A version leads back to what it was made of, by the registry, git and the DVC remote alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Done, Project, copy_of
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking._tracking_service import utils
from typer.testing import CliRunner

from flows import retrain as retraining
from flows.cli import app
from flows.retrain import retrain
from tasks.registry.evidence import shown_origin

NAME = "lcm-lora-shapes"
WEIGHTS = "artifacts/adapter/pytorch_lora_weights.safetensors"
Enter = Callable[[Project], None]


@pytest.fixture(scope="module")
def traced(done: Done, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a project with a remote and an origin, and a second champion; do not change it."""
    folder = tmp_path_factory.mktemp("traced")
    project = copy_of(done.project, folder / "project")
    project.call("dvc", "remote", "add", "--quiet", "--default", "store", str(folder / "remote"))
    project.set("distill.seed", 15)
    project.commit("A remote, and a better adapter")
    project.call("git", "remote", "add", "origin", str(project.root))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.root)
        database = project.root / ".mlflow" / "mlflow.db"
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
        patch.setattr(utils, "_artifact_repos_cache", OrderedDict())
        assert retrain(return_state=True).is_completed()
    return project


@pytest.fixture
def project(traced: Project, enter: Enter, tmp_path: Path) -> Project:
    """Return a copy of it, entered."""
    own = copy_of(traced, tmp_path / "project")
    enter(own)
    return own


@pytest.fixture
def nowhere(traced: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in an empty folder, with nothing of the project but the address of its registry."""
    monkeypatch.chdir(tmp_path)
    database = traced.root / ".mlflow" / "mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    return tmp_path


def client(project: Project) -> MlflowClient:
    return MlflowClient(f"sqlite:///{project.root / '.mlflow' / 'mlflow.db'}")


def champion(project: Project) -> ModelVersion:
    return client(project).get_model_version_by_alias(NAME, "champion")


def evidence(project: Project) -> Path:
    """Return the folder of the champion's evidence in MLflow's store."""
    store = project.root / ".mlflow" / "artifacts" / str(champion(project).run_id) / "artifacts"
    return store / champion(project).tags["evidence"].split("  ")[1].rpartition("/")[0]


def lineage(*arguments: str) -> str:
    """Return what `lcm-lora lineage` prints, or its one line of error."""
    done = CliRunner().invoke(app, ["lineage", *arguments])
    assert done.exit_code == (1 if done.stderr else 0), done.output
    return done.stderr or done.stdout


def commands(printed: str) -> list[str]:
    """Return the commands that a lineage ends in."""
    return [line.strip() for line in printed.partition("Made again")[2].splitlines()[1:]]


def test_the_printed_commands_make_the_same_bytes_from_a_fresh_clone(
    traced: Project, nowhere: Path
) -> None:
    wanted = commands(lineage(f"models:/{NAME}@champion"))
    assert wanted[0] == f"git clone {traced.root} again && cd again"
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    script = "\n".join(["set -e", *wanted])
    made = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stdout + made.stderr
    again = nowhere / "again"
    started = (again / ".checkpoints" / "started").read_text().split()
    assert started == ["distill", "select"]
    assert (again / WEIGHTS).read_bytes() == (traced.root / WEIGHTS).read_bytes()
    locks = [(root / "dvc.lock").read_text() for root in (again, traced.root)]
    assert locks[0] == locks[1]


def test_the_registry_alone_says_what_a_version_is_made_of(traced: Project, nowhere: Path) -> None:
    version = champion(traced)
    printed = lineage(f"models:/{NAME}/{version.version}")
    said = {
        *(version.tags[tag] for tag in ("git_sha", "data_md5", "adapter_md5", "base_sha256")),
        *(version.run_id, "now champion", "store", "champion by gate", "of a CPU core"),
        *(
            "Distance to real pictures",
            "Promote",
            f"better than {NAME} version 1",
            "distill.seed 15",
        ),
    }
    unfolded = "".join(printed.split())
    assert [one for one in said if "".join(one.split()) not in unfolded] == []


def test_evidence_is_what_its_sums_and_the_versions_tag_say(traced: Project) -> None:
    folder, tags = evidence(traced), champion(traced).tags
    for sums, place in ((tags["evidence"], folder.parent), (None, folder)):
        text = f"{sums}\n" if sums else (folder / "SHA256SUMS").read_text()
        subprocess.run(
            ["sha256sum", "--check", "--quiet"], input=text, text=True, cwd=place, check=True
        )
    assert (folder / "dvc.lock").read_text() == (traced.root / "dvc.lock").read_text()
    assert (folder / "params.yaml").read_text() == (traced.root / "params.yaml").read_text()
    told = json.loads((folder / "lineage.json").read_text())
    assert told["cost"]["missing"] == told["cost_of_all"]["missing"] == []
    assert 0 < told["cost"]["cpu_seconds"] < told["cost_of_all"]["cpu_seconds"]
    assert json.loads(tags["cost"]) == told["cost"]
    assert tags["pushed"] == told["dvc_remote"] == "store"
    assert tags["prefect_run"] == told["prefect"]["id"]


@pytest.mark.parametrize("name", ["SHA256SUMS", "lineage.json", "scores.json", "dvc.lock"])
@pytest.mark.parametrize("how", ["changed", "gone"])
def test_damaged_evidence_is_one_line(project: Project, name: str, how: str) -> None:
    file = evidence(project) / name
    if how == "changed":
        file.write_bytes(file.read_bytes() + b" ")
    else:
        file.unlink()
    said = lineage()
    assert said.startswith(f"error: {NAME} version 2: {name} of its evidence ")
    assert said.count("\n") == 1


def test_a_version_of_a_dirty_tree_is_not_reproducible(project: Project) -> None:
    (project.root / "scratch.txt").write_text("in no commit")
    project.set("distill.seed", 10)
    assert retrain(return_state=True).is_completed()
    assert champion(project).tags["git_dirty"] == "true"
    assert "Not reproducible" in lineage()
    assert commands(lineage()) == []


@pytest.mark.parametrize(
    ("origin", "kept"),
    [
        ("https://token@example.com/o/r", "https://example.com/o/r"),
        ("https://anna:secret@example.com/o/r", "https://example.com/o/r"),
        ("ssh://git@example.com/o/r", "ssh://git@example.com/o/r"),
        ("ssh://git:secret@example.com/o/r", "ssh://git@example.com/o/r"),
        ("git@example.com:o/r", "git@example.com:o/r"),
    ],
)
def test_an_origin_is_told_without_what_may_be_secret(origin: str, kept: str) -> None:
    assert shown_origin(origin) == kept


def test_nothing_is_registered_whose_data_cannot_be_pushed(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    (project.root / "file").touch()
    project.call("dvc", "remote", "modify", "store", "url", str(project.root / "file" / "within"))
    project.set("distill.seed", 10)
    assert retraining.main([]) == 1
    said = capfd.readouterr().err
    assert said.splitlines()[-1].startswith("error: DVC remote store: ")
    assert "Traceback" not in said
    assert len(client(project).search_model_versions(f"name = '{NAME}'")) == 2

    project.call("dvc", "remote", "remove", "store")
    assert retrain(return_state=True).is_completed()
    assert str(champion(project).version) == "3"
    assert champion(project).tags["pushed"] == "no remote"
    assert "no remote" in lineage()


def test_an_evaluation_anew_adds_evidence_and_replaces_none(project: Project) -> None:
    first, kept = champion(project).tags, evidence(project)
    before = {path: path.read_bytes() for path in kept.rglob("*") if path.is_file()}
    # Away with the alias, so that the adapter is judged on its own once more.
    client(project).delete_registered_model_alias(NAME, "champion")
    project.set("score.seed", 5)
    assert retrain(return_state=True).is_completed()
    tags = client(project).get_model_version(NAME, "2").tags
    assert tags["evaluation"] == "protocol-5-1000"
    assert tags["scores_sha256"] != first["scores_sha256"]
    assert tags["evidence"] != first["evidence"]
    assert {path: path.read_bytes() for path in before} == before
    assert f"{NAME} version 2" in lineage(f"models:/{NAME}/2")


def test_parameters_in_no_commit_are_not_overwritten(project: Project) -> None:
    project.set("distill.seed", 30)
    said = lineage("--into", ".")
    assert (
        said == "error: params.yaml: has changes that no commit has; commit them, or move it away\n"
    )
    project.commit("Another seed")
    shutil.copy("params.yaml", "other.yaml")
    lineage("--into", ".")
    assert json.loads(Path("params.yaml").read_text())["distill"]["seed"] == 15


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("champion", "names no version; write models:/NAME/3"),
        (f"models:/{NAME}/9", "the registry does not have it"),
        (f"models:/{NAME}@nobody", "the registry does not have it"),
        ("models:/nothing@champion", "the registry does not have it"),
    ],
)
def test_a_wrong_name_is_one_line(
    traced: Project, nowhere: Path, reference: str, said: str
) -> None:
    printed = lineage(reference)
    assert printed.startswith(f"error: {reference}: ")
    assert said in printed
    assert printed.count("\n") == 1


def test_no_registry_is_one_line(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{nowhere}/.mlflow/mlflow.db")
    assert "no such registry" in lineage(f"models:/{NAME}@champion")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    printed = lineage(f"models:/{NAME}@champion")
    assert "MLflow at http://127.0.0.1:9 does not answer" in printed
    assert "secret" not in printed


def test_a_run_is_named_after_what_came_of_it_and_its_page_says_why(traced: Project) -> None:
    version = champion(traced)
    run = client(traced).get_run(version.run_id)
    assert run.info.run_name == "version 2: new champion, fd_shapes:real 15.0 in 4 steps"
    page = run.data.tags["mlflow.note.content"]
    assert f"#/experiments/1/runs/{version.run_id}/artifacts/report/index.html" in page
    assert "| 4 steps | 15.0" in page
    assert champion(traced).tags["gate"] in page
    assert "Cost: " in page
    (shown,) = client(traced).search_experiments(filter_string="name = 'shapes'")
    assert "named after what came of it" in shown.tags["mlflow.note.content"]
