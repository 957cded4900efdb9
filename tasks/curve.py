"""Follow a training curve while it grows, into an MLflow run."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

_BATCH = 1000
"""MLflow takes no more metrics in one call."""


class Curve:
    """The part of a curve that a run already has, and the way to give it the rest."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        """Start with nothing logged."""
        self._client = client
        self._run_id = run_id
        self._last_step = -1

    def catch_up(self, path: Path) -> None:
        """Log the steps of a curve file that are new; a half-written last line waits."""
        records = [record for record in _read(path) if record["step"] > self._last_step]
        now = int(time.time() * 1000)
        metrics = [
            Metric(f"train/{name}", float(value), now, record["step"])
            for record in records
            for name, value in record.items()
            if name != "step" and value is not None
        ]
        for start in range(0, len(metrics), _BATCH):
            self._client.log_batch(self._run_id, metrics=metrics[start : start + _BATCH])
        if records:
            self._last_step = records[-1]["step"]

    def follow(self, path: Path, since: float, seconds: float, done: threading.Event) -> None:
        """Catch up every few seconds until `done` is set; a lost MLflow is tried again.

        What an earlier training left there, before the time `since`, is no part of this curve
        until it is written to again.
        """
        while not done.wait(seconds):
            if not path.exists() or path.stat().st_mtime < since:
                continue
            try:
                self.catch_up(path)
            except MlflowException:
                continue


def _read(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            return
