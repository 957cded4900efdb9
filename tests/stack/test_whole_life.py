"""From published data to a champion and back, on real servers and workers, with kills in between.

One story, told in order: each test goes on where the one before has ended.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.artifacts import download_artifacts
from processes import with_word
from team import FINAL, Team, awaited, gone
from team_stack import Stack

from tasks.history import journal

NAME = "whole-life"
GPUS = ("worker-gpu", "worker-gpu-2")
PAINTS = ["generate champion", "generate ddim", "generate teacher"]
WEIGHTS = "artifacts/adapter/pytorch_lora_weights.safetensors"
YES = {"approve": True, "by": "Ada", "why": "rings are rounder"}


@pytest.fixture(scope="module")
def team(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    with Team(stack, tmp_path_factory.mktemp("team"), NAME).at_work() as team:
        yield team


def test_a_revision_that_no_worker_can_follow_ends_in_one_line(team: Team) -> None:
    other = team.project.root / "tasks" / "running" / "slots.py"
    other.parent.mkdir(parents=True)
    other.write_text("other = 1\n")
    foreign = team.publish("Other code than the workers have")
    other.unlink()
    team.publish("Their own code again")
    wanted = {
        "nobody-knows": "revision nobody-knows: neither .* knows it; push it, or mend its name",
        foreign: "installed .* not as in commit .*; check out and install that commit there",
    }
    runs = {revision: team.retraining(revision) for revision in wanted}
    for revision, words in wanted.items():
        kind, message = team.end(runs[revision])
        assert kind == "FAILED"
        assert "\n" not in message
        assert re.search(words, message), message
    assert team.started() == []


def test_another_worker_takes_up_the_training_of_one_that_is_killed(team: Team) -> None:
    known = team.runs("retrain")
    team.hold(*GPUS)
    said = team.done(sys.executable, "-m", "flows.announce", team.first)
    assert said == f"announced {team.first}\n"
    run = team.new("retrain", known)
    victim = team.training(run, *GPUS)
    (other,) = set(GPUS) - {victim}
    family = team.family(victim)
    team.stack.process(victim).kill()
    assert gone(family)
    team.training(run, other)
    team.release(*GPUS)
    kind, message = team.end(run)
    asks = "version 1 waits for a person to approve it, as the flow run 'version 1: approval' asks"
    assert (kind, asks in message) == ("COMPLETED", True), message
    once = ["decide", *PAINTS, "prepare", "report", "score", "select"]
    assert team.started() == sorted([*once, "distill", "distill"])
    assert [version.version for version in team.versions()] == ["1"]
    assert team.aliases() == {"challenger": 1}


def test_a_persons_word_and_no_other_answer_makes_it_champion(team: Team) -> None:
    (run,) = team.runs("promote")
    assert run["name"] == "version 1: approval"
    (trained,) = (one for one in team.runs("retrain") if one["state_type"] == "COMPLETED")
    assert f"/runs/flow-run/{run['id']})" in team.page(trained)
    for wrong in ({"approve": True}, YES | {"why": "good"}, YES | {"approve": "perhaps"}):
        assert team.answer(run, **wrong) == "REJECT"
    assert team.aliases() == {"challenger": 1}
    assert team.answer(run, **YES) == "ACCEPT"
    assert team.end(run) == ("COMPLETED", f"{NAME} version 1: champion, approved by Ada")
    assert team.aliases() == {"champion": 1}


def test_a_worse_adapter_is_kept_out_though_its_stage_and_engine_are_killed(team: Team) -> None:
    team.employ("worker-gpu")
    team.stack.dismiss("worker-gpu-2")
    worse = team.publish("Worse data", distill__seed=40)
    team.hold("worker-gpu")
    run = team.retraining(worse)
    team.training(run, "worker-gpu")
    *_, stage = with_word(team.family("worker-gpu"), "distill")
    stage.kill()
    assert team.end(run) == ("FAILED", "distill: killed by signal 9 (SIGKILL); out of memory?")
    assert "distill" in team.started()

    run = team.retraining(worse)
    team.training(run, "worker-gpu")
    engine = team.engine(run)
    family = [engine, *engine.children(recursive=True)]
    engine.kill()
    assert gone(family)
    assert team.end(run)[0] == "CRASHED"
    run = team.retraining(worse)
    awaited(lambda: team.is_(run, "RUNNING"), "the run after")
    team.release("worker-gpu")
    assert team.end(run)[0] == "COMPLETED"
    assert team.started() == ["decide", "distill", "report", "score", "select"]
    assert len(team.versions()) == 2
    assert team.aliases() == {"champion": 1, "challenger": 2}
    assert len(team.runs("promote")) == 1


def test_servers_start_anew_under_a_run_which_loses_nothing(team: Team) -> None:
    better = team.publish("Better data", distill__seed=10)
    team.hold("worker-gpu")
    run = team.retraining(better)
    team.training(run, "worker-gpu")
    for part in ("database", "store", "mlflow", "prefect"):
        team.stack.restart(part)
    team.release("worker-gpu")
    assert team.end(run)[0] == "COMPLETED"
    assert team.started() == ["decide", "distill", "report", "score", "select"]
    assert len(team.versions()) == 3
    assert team.aliases() == {"champion": 1, "challenger": 3}


def test_a_question_outlives_the_servers_and_is_answered(team: Team) -> None:
    run = team.runs("promote")[-1]
    assert run["parameters"] == {"version": "3"}
    awaited(lambda: team.is_(run, "PAUSED"), "the question")  # and not yet its form
    team.stack.restart("prefect")
    assert team.answer(run, **YES) == "ACCEPT"
    assert team.end(run) == ("COMPLETED", f"{NAME} version 3: champion, approved by Ada")
    assert team.aliases() == {"champion": 3}


def test_the_champion_before_comes_back(team: Team) -> None:
    run = team.start("rollback/rollback", by="Bob", why="squares became rounder")
    title = "version 1: champion again, in the place of version 3"
    assert team.end(run) == ("COMPLETED", f"{NAME} {title}")
    assert team.aliases() == {"champion": 1}


def test_a_version_without_scores_is_not_asked_about(team: Team) -> None:
    made = team.mlflow.create_run(team.mlflow.create_experiment("by hand"))
    source = f"runs:/{made.info.run_id}/model"
    bare = team.mlflow.create_model_version(NAME, source, made.info.run_id)
    run = team.start("promote/promote", version=str(bare.version), by="Ada", why=YES["why"])
    kind, message = team.end(run)
    team.mlflow.delete_model_version(NAME, bare.version)
    assert (kind, "\n" in message) == ("FAILED", False), message
    assert team.aliases() == {"champion": 1}


def test_the_journal_tells_it_all(team: Team) -> None:
    said = team.done("lcm-lora", "journal", "--verify")
    assert said.startswith("6 entries as they were made, head ")
    entries = journal.read(team.mlflow, NAME)
    assert [(entry.kind, entry.version, entry.by) for entry in entries] == [
        ("intent", "1", "Ada"),
        ("champion", "1", "Ada"),
        ("intent", "3", "Ada"),
        ("champion", "3", "Ada"),
        ("intent", "1", "Bob"),
        ("champion", "1", "Bob"),
    ]


def test_the_printed_commands_make_the_champion_again_in_a_fresh_clone(
    team: Team, tmp_path: Path
) -> None:
    printed = team.done("lcm-lora", "lineage", f"models:/{NAME}@champion", place=tmp_path)
    wanted = [line.strip() for line in printed.partition("Made again")[2].splitlines()[1:]]
    assert wanted[0] == f"git clone {team.folder / 'origin.git'} again && cd again"
    team.done("bash", "-c", "\n".join(["set -e", *wanted]), place=tmp_path)
    started = (tmp_path / "again" / ".checkpoints" / "started").read_text().split()
    assert started == ["distill", "select"]
    kept = download_artifacts(f"models:/{NAME}@champion", dst_path=str(tmp_path / "kept"))
    (weights,) = Path(kept).rglob("pytorch_lora_weights.safetensors")
    assert weights.read_bytes() == (tmp_path / "again" / WEIGHTS).read_bytes()


def test_nothing_is_left_and_nothing_is_there_twice(team: Team) -> None:
    workers = {team.stack.process(name) for name in ("worker-cpu", "worker-gpu")}
    awaited(lambda: team.processes() == workers, "the end of all that workers started")
    for flow in ("retrain", "run-stage", "promote", "rollback"):
        assert [run["name"] for run in team.runs(flow) if run["state_type"] not in FINAL] == []
    sums = [version.tags["adapter_sha256"] for version in team.versions()]
    assert len(sums) == len(set(sums)) == 3
    experiment = team.mlflow.get_experiment_by_name(NAME)
    runs = team.mlflow.search_runs([experiment.experiment_id])
    whole = [run for run in runs if "adapter_sha256" in run.data.tags]
    assert sorted(run.data.tags["adapter_sha256"] for run in whole) == sorted(sums)
    assert {run.info.status for run in whole} == {"FINISHED"}
    # Those of trainings that were killed are closed.
    assert {run.info.status for run in runs if run not in whole} <= {"FAILED", "KILLED"}
    for name in ("worker-cpu", "worker-gpu"):
        places = team.clones[name].root / ".checkpoints" / "checkouts"
        assert [place.name for place in places.iterdir()] == ["lock"]
