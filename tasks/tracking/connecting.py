"""Reach MLflow: a project's place in it, or one line that says why it cannot be reached."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from lcm_lora.errors import UserError, reason, without_passwords
from tasks.tracking.tracker import Tracker

NOTE = "mlflow.note.content"
"""Tag of a run or an experiment: its description, in Markdown."""
_DESCRIPTION = """\
One run an adapter, named after what came of it; its page has the scores, the gate's verdict, the
cost and the links. Curves: `train/…` and `select/…` by step of training; `METRIC/PAINTER` by
sampling steps. Artifacts: `report` and `scores` of the newest evaluation, and `evidence`, which is
what its version is made of. Who was champion when is in the experiment of the journal."""


def connect(root: Path, experiment: str) -> Tracker:
    """Return the tracker of `experiment`, which is made if it is new, and close its dead runs.

    Raises:
        UserError: No MLflow answers at MLFLOW_TRACKING_URI.
    """
    uri = os.environ["MLFLOW_TRACKING_URI"]
    database = _database(uri)
    # A server has a place of its own for artifacts; a bare database needs one.
    place = (root / ".mlflow" / "artifacts").as_uri() if database else None
    with _answering(uri):
        if database:
            database.parent.mkdir(parents=True, exist_ok=True)
        with _impatience():
            client = _client(uri)
            found = client.get_experiment_by_name(experiment)
            made = found.experiment_id if found else client.create_experiment(experiment, place)
            if found is None or NOTE not in found.tags:
                client.set_experiment_tag(made, NOTE, _DESCRIPTION)
            tracker = Tracker(client, made, root)
            tracker.close_dead_runs()
    return tracker


@contextlib.contextmanager
def reading() -> Iterator[MlflowClient]:
    """Yield a client of the MLflow at MLFLOW_TRACKING_URI, for whoever only reads there.

    Raises:
        UserError: No MLflow answers there, or it will not.
    """
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if (database := _database(uri)) and not database.exists():
        raise UserError(
            f"{database}: no such registry; name it by MLFLOW_TRACKING_URI, or run in the folder "
            "of a project that has one"
        )
    with _impatience():
        with _answering(uri):
            client = _client(uri)
        try:
            yield client
        except MlflowException as error:
            raise _silent(uri, error) from None


def _database(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def _client(uri: str) -> MlflowClient:
    mlflow.set_tracking_uri(uri)
    return MlflowClient()


@contextlib.contextmanager
def _answering(uri: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise _silent(uri, error) from None


def _silent(uri: str, error: Exception) -> UserError:
    return UserError(
        f"MLflow at {without_passwords(uri)} does not answer: {reason(error)}; start it, or "
        "unset MLFLOW_TRACKING_URI to keep runs in .mlflow"
    )


@contextlib.contextmanager
def _impatience() -> Iterator[None]:
    """Give up on a silent server in seconds; MLflow's own patience is minutes."""
    wanted = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
