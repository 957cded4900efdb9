"""What MLflow is told: names it takes, steps that mean sampling steps, curves without gaps."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.entities import Run
from recipes import recipe_of

from lcm_lora import layout
from lcm_lora.champion_record import Champion
from lcm_lora.evaluation.scores import Table
from lcm_lora.evaluation.selection import JudgedCandidate, Selection
from lcm_lora.gate.decision import Decision
from lcm_lora.params.file import load_params
from lcm_lora.params.generate import Cell
from lcm_lora.recipe import Recipe
from lcm_lora.training.origin import Origin
from tasks.tracking.connecting import connect
from tasks.tracking.metrics import difference_metrics, score_metrics, transfer_metrics
from tasks.tracking.results import DvcSource, flatten, log_results
from tasks.tracking.tracker import Tracker
from tasks.tracking.training import Training

PRESET = Path(__file__).parents[2] / "lcm_lora" / "presets" / "shapes.yaml"
CELLS = {
    "adapter": [(1, 1, 0), (4, 1, 0)],
    "champion": [(1, 1, 0), (4, 1, 0)],
    "ddim": [(4, 1, 0), (4, 3, 0)],
    "teacher": [(50, 3, 0), (50, 3, 1)],
}


def metrics_table(painted: dict[str, list[tuple[int, int, int]]] = CELLS) -> Table:
    """Return a table with one metric of every cell, and the adapter against champion and solver."""
    cells = [
        {"id": f"{painter}/{cell.name}", "painter": painter, "nfe": cell.nfe, **cell.model_dump()}
        for painter, places in painted.items()
        for steps, guidance, seeds in places
        for cell in (Cell(steps=steps, guidance=guidance, seeds=seeds),)
    ]
    whose = {"sampler": None, "images_sha256": "", "subject_sha256": ""}
    ends = {"difference": -2.0, "se": 1.0, "low": -4.0, "high": 0.5, "verdict": "level"}
    other = {"champion": "champion/steps-4_guidance-1", "rival": "ddim/steps-4_guidance-1"}
    hashes = ("captions", "real", "teacher", "code")
    record = {
        "protocol": {
            **{f"{name}_sha256": "" for name in hashes},
            **{"n": 8, "arrays": {}, "teacher": "", "level": 0.95, "sha256": "one"},
        },
        "champion": Champion(version="toy version 1", weights_sha256="").model_dump(),
        "metrics": [],
        "cells": [cell | whose for cell in cells],
        "rows": [
            {"cell": cell["id"], "metric": "fd_shapes:real", "value": 1, "bias": 0, "se": 1, "n": 8}
            for cell in cells
        ],
        "pairs": [
            {"metric": "fd_shapes:real", "a": "adapter/steps-4_guidance-1", "b": b, "against": who}
            | ends
            for who, b in other.items()
        ],
    }
    return Table.model_validate(record)


def test_metrics_are_one_curve_over_steps_for_each_painter_and_guidance() -> None:
    metrics = score_metrics(metrics_table())
    assert [(metric.key, metric.step) for metric in metrics] == [
        ("fd_shapes.real/adapter", 1),
        ("fd_shapes.real/adapter", 4),
        ("fd_shapes.real/champion", 1),
        ("fd_shapes.real/champion", 4),
        ("fd_shapes.real/ddim_guidance-1", 4),
        ("fd_shapes.real/ddim_guidance-3", 4),
        ("fd_shapes.real/teacher", 50),
        ("fd_shapes.real/teacher_seeds-1", 50),
    ]
    assert all(re.fullmatch(r"[\w\-. /]+", metric.key) for metric in metrics)


def test_elsewhere_each_subject_has_its_curves_and_its_map_stays_in_the_table() -> None:
    """A map has a cell for each pair of weights, which would bury all else."""
    table = metrics_table(CELLS | {"mix-50-100": [(4, 1, 0)], "mix-100-100": [(4, 1, 0)]})
    own = {
        (f"transfer/ink/{one.key}", one.step, one.value) for one in score_metrics(metrics_table())
    }
    assert {(one.key, one.step, one.value) for one in transfer_metrics("ink", table)} == own


def test_only_what_is_against_the_champion_is_a_difference_from_it() -> None:
    (metric,) = difference_metrics(metrics_table())
    assert (metric.key, metric.step, metric.value) == ("fd_shapes.real/vs_champion", 4, -2.0)


def test_flat_parameters_are_texts_under_dotted_names() -> None:
    nested = {"a": {"b": 1, "c": {"d": [1, 2]}}, "e": "x", "f": None}
    assert dict(flatten(nested)) == {"a.b": "1", "a.c.d": "[1, 2]", "e": "x", "f": "null"}


def test_a_source_survives_its_own_words() -> None:
    source = DvcSource("data/shards", "abc.dir")
    assert DvcSource.from_json(source.to_json()).to_dict() == source.to_dict()


@pytest.fixture
def root(mlflow_folder: Path) -> Path:
    """A folder with an MLflow."""
    return mlflow_folder


def test_a_failed_training_is_a_failed_run_that_is_no_adapters_run(root: Path) -> None:
    tracker = connect(root, "failed")
    with pytest.raises(KeyboardInterrupt), tracker.follow_training():
        raise KeyboardInterrupt
    (run,) = tracker.client.search_runs([tracker.experiment_id])
    assert run.info.status == "FAILED"
    assert tracker.find_run("anything") is None


TRAINING = Training(
    candidates_sha256="candidates",
    origin=Origin(git_commit="abc", git_dirty=False, code_sha256=""),
    curve=[],
    recipe=Recipe.model_validate(recipe_of("own")),
    selection=Selection(
        metric="kid:real",
        lower_is_better=True,
        steps=4,
        guidance=1.0,
        prompts=8,
        rows=(JudgedCandidate(step=1, value=1.0, se=0.1),),
        chosen=1,
    ),
)
DECISION = Decision(
    promote=True,
    reason="so it is",
    champion=None,
    adapter_sha256="own",
    protocol_sha256="protocol",
    rules=(),
)


def write_evaluation(root: Path, scores: str, report: str) -> None:
    """Leave what an evaluation leaves, and dvc.lock with a hash of each."""
    hashes = {"data/shards": "0" * 32, str(layout.SELECTED): "1", str(layout.DECISION): "decided"}
    hashes |= {str(layout.SCORES): scores, str(layout.REPORT): report}
    outs = [{"path": path, "md5": md5} for path, md5 in hashes.items()]
    (root / "dvc.lock").write_text(json.dumps({"stages": {"all": {"outs": outs}}}))
    (root / layout.PARAMS).write_text("")
    for folder in (layout.SCORES.parent, layout.REPORT):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / layout.SCORES).write_text(scores)
    (root / layout.DECISION).write_text("decided")
    (root / layout.REPORT / "index.html").write_text(report)


def log(tracker: Tracker) -> Run:
    """Log what lies there; return the run."""
    params = load_params(PRESET)
    run_id = log_results.fn(tracker, params, TRAINING, metrics_table(), DECISION)
    return tracker.client.get_run(run_id)


@pytest.fixture
def tracker(root: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Tracker:
    """A project folder and an experiment of their own."""
    made = connect(root, request.node.name)
    return Tracker(made.client, made.experiment_id, tmp_path)


def test_scores_that_change_alone_replace_none(tracker: Tracker) -> None:
    """Such as by a painter that is added: protocol and decision are what they were."""
    for scores, report in (("two", "two"), ("three", "three"), ("four", "three"), ("two", "two")):
        write_evaluation(tracker.root, scores, report)
        run = log(tracker)
    place = tracker.client.download_artifacts(run.info.run_id, "scores/protocol", str(tracker.root))
    pages = [
        (kept / "scores.json", kept / "report" / "index.html") for kept in Path(place).iterdir()
    ]
    found = {(scores.read_text(), page.read_text()) for scores, page in pages}
    assert found == {("two", "two"), ("three", "three"), ("four", "three")}


def test_parameters_of_a_run_are_those_that_made_its_adapter(tracker: Tracker) -> None:
    """They are written once, and how the adapter is measured may change."""
    write_evaluation(tracker.root, "two", "two")
    sections = {name.partition(".")[0] for name in log(tracker).data.params}
    made_by = {"hardware", "base", "prepare", "evaluation", "encode", "distill", "select"}
    assert sections == made_by


def die_training(root: Path) -> None:
    """Have a process begin a run and die of it."""
    code = (
        "import os, sys; from pathlib import Path; from tasks.tracking.connecting import connect\n"
        "with connect(Path(sys.argv[1]), 'dead').follow_training(): os._exit(9)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code, str(root)], env=environment, check=False)


def test_connecting_closes_the_runs_of_the_dead_and_of_nobody_else(root: Path) -> None:
    tracker = connect(root, "dead")
    client, experiment = tracker.client, tracker.experiment_id
    die_training(root)
    (run,) = client.search_runs([experiment])
    assert run.info.status == "RUNNING"
    tags = {name: value for name, value in run.data.tags.items() if name.startswith("process_")}

    def twin(**changes: str) -> str:
        """Make a run whose process is like the dead one, but for changes."""
        return str(client.create_run(experiment, tags=tags | changes).info.run_id)

    wanted = {
        run.info.run_id: "KILLED",
        twin(process_pid=str(os.getpid())): "KILLED",  # the number is somebody else's by now
        twin(process_host="elsewhere"): "RUNNING",
    }
    with contextlib.suppress(KeyboardInterrupt), tracker.follow_training():
        mine = client.search_runs([experiment])[0].info.run_id
        connect(root, "dead")
        found = {run.info.run_id: run.info.status for run in client.search_runs([experiment])}
        assert found == wanted | {mine: "RUNNING"}
        raise KeyboardInterrupt
