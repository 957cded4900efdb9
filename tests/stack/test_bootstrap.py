"""Users, buckets, dump and restore, on the servers that they are for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from team_stack import Stack

from infra.local import database, parts, settings

INFRA = Path(__file__).parents[2] / "infra"
WORKER, SERVE = "worker-worker-worker", "serve-serve-serve"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(stack: Stack) -> Run:
    """Return what runs a program of infra as the stack's administrator."""
    known = settings.known(stack.folder)
    (server, *_) = (
        Path(word)
        for word in database.part(stack.folder, known).command
        if word.endswith("bin/postgres")
    )
    environment = {
        "PATH": f"{server.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PGHOST": "127.0.0.1",
        "PGPORT": str(known.ports[settings.DATABASE]),
        "PGUSER": "stack",
        "PGPASSWORD": known.secrets.database,
        **stack.environment,
    }

    def program(*command: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=environment | more, capture_output=True, text=True, check=False
        )

    return program


def client(stack: Stack, monkeypatch: pytest.MonkeyPatch, user: str, password: str) -> MlflowClient:
    """Return MLflow as one user sees it, from now on."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    return MlflowClient(stack.environment["MLFLOW_TRACKING_URI"])


def give_users(run: Run, worker: str) -> None:
    done = run(
        *("python", INFRA / "bootstrap" / "users.py", "worker", "serve"),
        MLFLOW_WORKER_PASSWORD=worker,
        MLFLOW_SERVE_PASSWORD=SERVE,
    )
    assert done.returncode == 0, done.stderr


def test_a_worker_changes_what_it_made_and_a_service_only_reads(
    stack: Stack, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_users(run, "former-former-former")
    give_users(run, WORKER)  # again, with a new password
    with pytest.raises(MlflowException, match="401"):
        client(stack, monkeypatch, "worker", "former-former-former").search_experiments()
    worker = client(stack, monkeypatch, "worker", WORKER)
    experiment = worker.create_experiment("of a worker")
    made = worker.create_run(experiment)
    worker.create_registered_model("a model")
    worker.create_model_version("a model", f"runs:/{made.info.run_id}/model", made.info.run_id)
    worker.set_registered_model_alias("a model", "champion", "1")
    serve = client(stack, monkeypatch, "serve", SERVE)
    assert str(serve.get_model_version_by_alias("a model", "champion").version) == "1"
    for forbidden in (
        lambda: serve.set_registered_model_alias("a model", "champion", "1"),
        lambda: serve.delete_registered_model("a model"),
        lambda: serve.create_run(experiment),
        lambda: serve.set_tag(made.info.run_id, "journal", "forged"),
    ):
        with pytest.raises(MlflowException, match="403"):
            forbidden()


def test_buckets_are_made_once(run: Run) -> None:
    for _ in range(2):
        done = run("python", INFRA / "bootstrap" / "buckets.py", "one-more", "another-one")
        assert done.returncode == 0, done.stderr


def test_after_the_databases_are_lost_a_dump_brings_all_back(
    stack: Stack, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, password = (
        stack.environment[f"MLFLOW_TRACKING_{one}"] for one in ("USERNAME", "PASSWORD")
    )
    mlflow = client(stack, monkeypatch, user, password)
    mlflow.create_registered_model("before the dump")
    # Of running servers.
    dump = run(INFRA / "backup" / "backup.sh", tmp_path)
    assert dump.returncode == 0, dump.stderr
    mlflow.create_registered_model("after the dump")
    parts.end(stack.folder, [settings.PREFECT, settings.MLFLOW])
    try:
        for name in database.DATABASES:
            for command in (f"DROP DATABASE {name} WITH (FORCE)", f"CREATE DATABASE {name}"):
                assert run("psql", "--dbname=postgres", "-c", command).returncode == 0
        done = run(INFRA / "backup" / "restore.sh", dump.stdout.strip())
        assert done.returncode == 0, done.stderr
    finally:
        stack.mend()
    names = {model.name for model in mlflow.search_registered_models()}
    assert "before the dump" in names
    assert "after the dump" not in names
