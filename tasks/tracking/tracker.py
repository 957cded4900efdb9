"""MLflow runs: one for each adapter, made while it trains, and found by its content."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
from mlflow import MlflowClient
from mlflow.entities import Run, RunTag
from mlflow.exceptions import MlflowException

from lcm_lora import layout
from lcm_lora.commit import working_commit
from lcm_lora.errors import UserError
from lcm_lora.params.file import load_params
from lcm_lora.training.curve import CURVE
from tasks.tracking.curve import Curve
from tasks.tracking.prefect_run import PrefectRun
from tasks.tracking.training import Course, Training, read_course

LIVE_CURVE = layout.CHECKPOINTS / "distill" / CURVE

_SECONDS_OF_DOUBT = 3.0
"""By so much a process's time of start, or that of a file, may seem to move."""


@dataclass(frozen=True)
class Tracker:
    """One project's place in one MLflow."""

    client: MlflowClient
    experiment_id: str
    root: Path

    def find_run(self, adapter_sha256: str) -> Run | None:
        """Return the run of an adapter, by its weights; the first one, if it was made twice."""
        runs = self.client.search_runs(
            [self.experiment_id],
            f"tags.adapter_sha256 = '{adapter_sha256}'",
            max_results=1,
            order_by=["attributes.start_time ASC"],
        )
        return runs[0] if runs else None

    @contextlib.contextmanager
    def follow_training(self) -> Iterator[None]:
        """Keep a run that gets the curve live while the block trains.

        A lost MLflow stops no training: `log_results` makes a run afterwards.

        Raises:
            UserError: What the training left is damaged.
        """
        # Making the run takes a while on a busy machine; the training has begun meanwhile.
        since = time.time() - _SECONDS_OF_DOUBT
        try:
            run_id = self._new_run()
        except MlflowException:
            yield
            return
        curve = Curve(self.client, run_id)
        try:
            with curve.follow(self.root / LIVE_CURVE, since):
                yield
            with contextlib.suppress(MlflowException):
                self._finish(run_id, curve, read_course(self.root))
        except BaseException:
            with contextlib.suppress(MlflowException):
                self.client.set_terminated(run_id, "FAILED")
            raise

    def run_of(self, training: Training) -> Run:
        """Return the run of an adapter.

        It is its training's, if no other candidate of that has it; or a new one, if the adapter was
        trained without this MLflow, or is another choice of a training that is known.
        """
        if found := self.find_run(training.recipe.weights_sha256):
            return found
        free = self._free_run(training)
        if free:
            self._give(free, training)
        return self.client.get_run(free or self.adopt_training(training))

    def adopt_training(self, training: Training) -> str:
        """Make a run for an adapter that has none; return its id."""
        run_id = self._new_run()
        self._finish(run_id, Curve(self.client, run_id), training)
        self._give(run_id, training)
        return run_id

    def close_dead_runs(self) -> None:
        """Close the runs of processes that have died on this host; nobody else will."""
        running = self.client.search_runs(
            [self.experiment_id],
            f"attributes.status = 'RUNNING' and tags.process_host = '{socket.gethostname()}'",
        )
        for run in running:
            if not _is_alive(run.data.tags):
                self.client.set_terminated(run.info.run_id, "KILLED")

    def _new_run(self) -> str:
        tags = _source(*working_commit(self.root)) | _this_process()
        if prefect := PrefectRun.current():
            tags |= prefect.tags
        run = self.client.create_run(self.experiment_id, tags=tags, run_name=_purpose(self.root))
        return str(run.info.run_id)

    def _free_run(self, course: Course) -> str | None:
        """Return the latest run of a training that no adapter has yet."""
        runs = self.client.search_runs(
            [self.experiment_id],
            f"tags.candidates_sha256 = '{course.candidates_sha256}'",
            order_by=["attributes.start_time DESC"],
        )
        free = (run.info.run_id for run in runs if "adapter_sha256" not in run.data.tags)
        return next(free, None)

    def _finish(self, run_id: str, curve: Curve, course: Course) -> None:
        curve.log(course.curve)
        self._tag(
            run_id,
            _source(course.origin.git_commit, course.origin.git_dirty)
            | {"candidates_sha256": course.candidates_sha256},
        )
        self.client.set_terminated(run_id)

    def _give(self, run_id: str, training: Training) -> None:
        sha256 = training.recipe.weights_sha256
        name = f"adapter {sha256[:8]}, step {training.selection.chosen} of distill"
        self._tag(run_id, {"mlflow.runName": name, "adapter_sha256": sha256})

    def _tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        self.client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])


def _purpose(root: Path) -> str:
    """Return the name of a run that trains, as long as nothing has come of it."""
    with contextlib.suppress(UserError):
        params = load_params(root / layout.PARAMS)
        return f"training: {params.distill.steps} steps of distill on {params.base.model}"
    return "training"


def _source(commit: str, is_dirty: bool) -> dict[str, str]:
    return {"mlflow.source.git.commit": commit, "git_dirty": str(is_dirty).lower()}


def _this_process() -> dict[str, str]:
    process = psutil.Process()
    return {
        "process_host": socket.gethostname(),
        "process_pid": str(process.pid),
        "process_started": f"{process.create_time():.2f}",
    }


def _is_alive(tags: Mapping[str, str]) -> bool:
    """Tell whether the process on this host that tags name is still the same, and runs."""
    try:
        process = psutil.Process(int(tags["process_pid"]))
        moved = abs(process.create_time() - float(tags["process_started"]))
        return moved < _SECONDS_OF_DOUBT and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
