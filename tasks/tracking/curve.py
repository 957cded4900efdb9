"""Follow a training curve while it grows, into an MLflow run."""

from __future__ import annotations

import contextlib
import functools
import time
from contextlib import AbstractContextManager
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from lcm_lora.errors import UserError
from lcm_lora.records import parse_record
from lcm_lora.training.curve import CurveRow
from tasks.running.meanwhile import meanwhile

_SECONDS_BETWEEN_BATCHES = 3.0
_BATCH = 1000
"""MLflow takes no more metrics in one call."""


class Curve:
    """The part of a curve that a run already has, and the way to give it the rest."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        """Start with nothing logged."""
        self._client = client
        self._run_id = run_id
        self._last_step = -1

    def log(self, rows: list[CurveRow]) -> None:
        """Log the steps that are new."""
        now = int(time.time() * 1000)
        metrics = [
            Metric(f"train/{name}", float(value), now, row.step)
            for row in rows
            if row.step > self._last_step
            for name, value in row.model_dump(exclude={"step"}, exclude_none=True).items()
        ]
        for start in range(0, len(metrics), _BATCH):
            self._client.log_batch(self._run_id, metrics=metrics[start : start + _BATCH])
        if rows:
            self._last_step = rows[-1].step

    def follow(self, path: Path, since: float) -> AbstractContextManager[None]:
        """Log what is written to a file during the block, every few seconds.

        What an earlier training left there, before the time `since`, is no part of this curve until
        it is written to again.
        """
        return meanwhile(functools.partial(self._keep_up, path, since), _SECONDS_BETWEEN_BATCHES)

    def _keep_up(self, path: Path, since: float) -> None:
        # A file that is not there yet and a lost MLflow are tried again.
        with contextlib.suppress(OSError, UserError, MlflowException):
            if path.stat().st_mtime >= since:
                self.log(_so_far(path))


def _so_far(path: Path) -> list[CurveRow]:
    """Return the rows of a curve that is being written; a half-written last line waits."""
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    return [parse_record(line, CurveRow, str(path), "wait") for line in whole.splitlines()]
