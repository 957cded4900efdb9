"""What MLflow is told: names it takes, steps that mean sampling steps, curves without gaps."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lcm_lora.evaluation.table import Row
from tasks.tracking import DvcSource, connect, flatten, score_metrics


def row(sampler: str, steps: int, guidance: float, seeds: int = 0) -> Row:
    place = {"sampler": sampler, "steps": steps, "guidance": guidance, "seeds": seeds, "nfe": steps}
    measured = {"metric": "fd_shapes:real", "value": 1.0, "se": 0.1, "n": 8, "network": "shapes"}
    return Row(**place, **measured, ms=None)


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


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with an MLflow."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / '.mlflow' / 'mlflow.db'}")
        yield folder


def test_a_failed_training_is_a_failed_run_that_is_no_adapters_run(root: Path) -> None:
    tracker = connect(root, "failed")
    with pytest.raises(KeyboardInterrupt), tracker.follow_training():
        raise KeyboardInterrupt
    (run,) = tracker.client.search_runs([tracker.experiment_id])
    assert run.info.status == "FAILED"
    assert tracker.find_run("anything") is None


def die_training(root: Path) -> None:
    """Have a process begin a run and die of it."""
    code = (
        "import os, sys; from pathlib import Path; from tasks.tracking import connect\n"
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
