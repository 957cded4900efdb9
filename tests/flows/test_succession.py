"""A project's adapters one after another: each is judged against who is champion, in one table.

One story, told once: an adapter that is level with the champion, and a better one, which is trained
while the evaluation changes and while somebody makes another version champion.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import Done, Project, copy_of
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking._tracking_service import utils

from flows.retrain import retrain

NAME = "lcm-lora-shapes"


@dataclass
class Story:
    """A project after its fourth run."""

    project: Project
    aliases: list[dict[str, int]] = field(default_factory=list)
    """After each run, from the first."""
    started: list[list[str]] = field(default_factory=list)
    """In each run, from the second."""

    @property
    def mlflow(self) -> MlflowClient:
        return client(self.project)

    def version(self, number: int) -> ModelVersion:
        return self.mlflow.get_model_version(NAME, str(number))

    def run_of(self, number: int) -> Run:
        return self.mlflow.get_run(self.version(number).run_id)

    def go(self) -> None:
        state = retrain(return_state=True)
        assert state.is_completed(), state.message
        self.started.append(self.project.started())
        self.note()

    def note(self) -> None:
        aliases = self.mlflow.get_registered_model(NAME).aliases
        self.aliases.append({alias: int(version) for alias, version in aliases.items()})


def client(project: Project) -> MlflowClient:
    return MlflowClient(f"sqlite:///{project.root / '.mlflow' / 'mlflow.db'}")


def promote_while_it_trains(project: Project, version: str) -> None:
    """Have somebody make a version champion once the training has begun, and not before."""
    hold = project.root / ".checkpoints" / "hold"
    hold.touch()
    try:
        end = time.monotonic() + 600
        while "distill" not in project.noted() and time.monotonic() < end:
            time.sleep(0.1)
        client(project).set_registered_model_alias(NAME, "champion", version)
    finally:
        hold.unlink()


@pytest.fixture(scope="module")
def story(done: Done, tmp_path_factory: pytest.TempPathFactory) -> Story:
    told = Story(copy_of(done.project, tmp_path_factory.mktemp("story") / "project"))
    project = told.project
    project.started()
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor() as pool:
        patch.chdir(project.root)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project.root / '.mlflow' / 'mlflow.db'}")
        patch.setattr(utils, "_artifact_repos_cache", OrderedDict())
        told.note()
        project.set("distill.seed", 18)
        told.go()
        project.set("distill.seed", 10)
        project.set("generate.seed", 5)
        somebody = pool.submit(promote_while_it_trains, project, "2")
        told.go()
        somebody.result()
        told.go()
    return told


def test_champion_moves_only_to_a_better_adapter(story: Story) -> None:
    assert story.aliases == [
        {"champion": 1},
        {"champion": 1, "challenger": 2},
        {"champion": 3},
        {"champion": 3},
    ]


def test_the_rule_that_stops_an_adapter_is_named(story: Story) -> None:
    level = story.version(2).tags["gate"]
    assert level == (
        "Distance to real pictures at 4 steps is better than the champion's by 2 (-1 to 5), "
        "needed better by more than 0, as far as the interval says"
    )
    run = story.run_of(2)
    assert run.data.tags["decision"] == "keep the champion"
    assert run.data.tags["decision_reason"] == level


def test_the_champion_is_brought_and_measured_in_the_same_run(story: Story) -> None:
    tags = story.version(2).tags
    assert tags["judged_against"] == f"{NAME} version 1"
    metrics = story.run_of(2).data.metrics
    assert metrics["fd_shapes.real/adapter"] == 18.0
    assert metrics["fd_shapes.real/champion"] == 20.0
    assert metrics["fd_shapes.real/vs_champion"] == -2.0
    history = story.mlflow.get_metric_history(story.version(2).run_id, "fd_shapes.real/vs_champion")
    assert [metric.step for metric in history] == [4]


def test_a_new_evaluation_measures_the_champion_anew(story: Story) -> None:
    """Whatever the champion was measured by before, nothing is incomparable."""
    version = story.version(3)
    assert version.tags["evaluation"] == "protocol-0-5" != story.version(2).tags["evaluation"]
    assert story.run_of(3).data.metrics["fd_shapes.real/champion"] == 18.0
    assert "generate champion" in story.started[1]


def test_who_became_champion_meanwhile_is_who_counts(story: Story) -> None:
    """Version 1 was champion when the run began, and version 2 when it judged."""
    version = story.version(3)
    assert version.tags["judged_against"] == f"{NAME} version 2"
    assert version.tags["gate"].startswith(f"better than {NAME} version 2: Distance to real")
    assert story.started[1].count("decide") == 2
    assert story.started[1].count("distill") == 1


def test_a_run_with_nothing_new_compares_nothing(story: Story) -> None:
    """The champion is this adapter now, and its comparison with the one before it stands."""
    assert story.started[2] == ["inventory"]
    decision = json.loads((story.project.root / "artifacts" / "decision.json").read_text())
    assert decision["promote"]
    assert decision["champion"]["version"] == f"{NAME} version 2"


def test_what_was_scored_stays_in_the_run(done: Done, story: Story, tmp_path: Path) -> None:
    run = story.run_of(1)
    first = story.mlflow.list_artifacts(run.info.run_id, "scores")
    (protocol,) = (Path(file.path).name for file in first if file.is_dir)
    (place,) = story.mlflow.list_artifacts(run.info.run_id, f"scores/{protocol}")
    assert protocol == "protocol-0-1"  # of sixteen letters twelve
    kept = {Path(f.path).name for f in story.mlflow.list_artifacts(run.info.run_id, place.path)}
    assert kept == {"scores.json", "decision.json", "report"}
    scores = (done.project.root / "artifacts" / "scores" / "scores.json").read_bytes()
    for path in (f"{place.path}/scores.json", "scores/scores.json"):
        found = story.mlflow.download_artifacts(run.info.run_id, path, str(tmp_path))
        assert Path(found).read_bytes() == scores
