"""Prefect's and MLflow's servers on the stack's database and store, behind passwords."""

from __future__ import annotations

import sys
from pathlib import Path

from infra.local import database
from infra.local.parts import Part
from infra.local.settings import ARTIFACTS, BUCKETS, MLFLOW, PREFECT, USER, Settings, s3
from infra.local.waiting import answers
from lcm_lora.files import write_bytes

_USERS = "users.ini"


def make(folder: Path, settings: Settings) -> None:
    """Write where MLflow finds its users."""
    path = folder / MLFLOW / _USERS
    write_bytes(path, _users(settings).encode())
    path.chmod(0o600)


def parts(folder: Path, settings: Settings) -> list[Part]:
    """Return how both servers are started."""
    return [_prefect(folder, settings), _mlflow(folder, settings)]


def _prefect(folder: Path, settings: Settings) -> Part:
    where = ("--host", "127.0.0.1", "--port", str(settings.ports[PREFECT]))
    place = folder / PREFECT
    return Part(
        name=PREFECT,
        command=(sys.executable, "-m", "prefect", "server", "start", *where),
        environment={
            "PREFECT_HOME": str(place),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": database.url(settings, "prefect", "asyncpg"),
            "PREFECT_SERVER_API_AUTH_STRING": f"{USER}:{settings.secrets.prefect}",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_API_URL": "/api",  # else its pages ask port 4200
            "DO_NOT_TRACK": "true",
        },
        place=place,
        answers=lambda born: answers(f"{settings.address(PREFECT)}/api/ready"),
    )


def _mlflow(folder: Path, settings: Settings) -> Part:
    place = folder / MLFLOW
    port = settings.ports[MLFLOW]
    where = ("--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    hosts = ("--allowed-hosts", f"127.0.0.1:{port},localhost:{port}")
    artifacts = ("--artifacts-destination", f"s3://{BUCKETS[ARTIFACTS]}")
    behind = ("--app-name", "basic-auth")
    return Part(
        name=MLFLOW,
        command=(sys.executable, "-m", "mlflow", "server", *where, *hosts, *artifacts, *behind),
        environment={
            "MLFLOW_BACKEND_STORE_URI": database.url(settings, "mlflow", "psycopg2"),
            "MLFLOW_AUTH_CONFIG_PATH": str(place / _USERS),
            "MLFLOW_AUTH_ADMIN_PASSWORD": settings.secrets.mlflow,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": settings.secrets.sessions,
            "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": settings.secrets.webhooks,
            # Eight more processes, for nothing that is used here.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            **s3(settings, ARTIFACTS),
        },
        place=place,
        answers=lambda born: answers(f"{settings.address(MLFLOW)}/health"),
    )


def _users(settings: Settings) -> str:
    return (
        "[mlflow]\n"
        "default_permission = READ\n"
        # To check a password takes a tenth of a second of CPU, and a run asks hundreds of times.
        "auth_cache_ttl_seconds = 60\n"
        f"database_uri = {database.url(settings, 'mlflow_auth', 'psycopg2')}\n"
        f"admin_username = {USER}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
