"""What MLflow is told: names it takes, steps that mean sampling steps, curves without gaps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tasks.tracking import DvcSource, connect, flatten, score_metrics


def row(sampler: str, steps: int, guidance: float, seeds: int = 0) -> dict[str, object]:
    place = {"sampler": sampler, "steps": steps, "guidance": guidance, "seeds": seeds}
    return place | {"metric": "fd_shapes:real", "value": 1.0}


def test_metrics_are_one_curve_over_steps_for_each_way_of_sampling() -> None:
    rows = [row("lcm", 1, 1), row("lcm", 4, 1), row("ddim", 4, 1), row("ddim", 4, 3)]
    rows += [row("teacher", 50, 3), row("teacher", 50, 3, seeds=1)]
    metrics = score_metrics(rows)
    assert [(metric.key, metric.step) for metric in metrics] == [
        ("fd_shapes.real/lcm", 1),
        ("fd_shapes.real/lcm", 4),
        ("fd_shapes.real/ddim_guidance-1", 4),
        ("fd_shapes.real/ddim_guidance-3", 4),
        ("fd_shapes.real/teacher", 50),
        ("fd_shapes.real/teacher_seeds-1", 50),
    ]
    assert all(re.fullmatch(r"[\w\-. /]+", metric.key) for metric in metrics)


def test_flat_parameters_are_texts_under_dotted_names() -> None:
    nested = {"a": {"b": 1, "c": {"d": [1, 2]}}, "e": "x", "f": None}
    assert dict(flatten(nested)) == {"a.b": "1", "a.c.d": "[1, 2]", "e": "x", "f": "null"}


def test_a_source_survives_its_own_words() -> None:
    source = DvcSource("data/shards", "abc.dir")
    assert DvcSource.from_json(source.to_json()).to_dict() == source.to_dict()


def test_a_failed_training_is_a_failed_run_that_is_no_adapters_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / '.mlflow' / 'mlflow.db'}")
    tracker = connect(tmp_path, "toy")
    with pytest.raises(KeyboardInterrupt), tracker.follow_training():
        raise KeyboardInterrupt
    (run,) = tracker.client.search_runs([tracker.experiment_id])
    assert run.info.status == "FAILED"
    assert tracker.find_run("anything") is None
