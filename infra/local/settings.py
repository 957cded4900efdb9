"""What makes a stack this one: its ports and its secrets, drawn once and remembered."""

from __future__ import annotations

import base64
import contextlib
import secrets
import socket
from pathlib import Path

from lcm_lora.files import write_bytes
from lcm_lora.records import Record, read_record, write_record

DATABASE, PREFECT, MLFLOW, STORE = "database", "prefect", "mlflow", "store"
BACKENDS = ("store-account", "store-container", "store-object")
"""The servers behind the store's door."""

USER = "admin"
"""The name that goes with the passwords of Prefect and MLflow."""

WORKERS, ARTIFACTS = "workers", "artifacts"
"""The two tenants of the store: neither sees the other's buckets."""

BUCKETS = {WORKERS: "lcm-lora", ARTIFACTS: "mlflow"}
"""The bucket of each tenant. Artifacts are reached through MLflow alone, which asks who it is."""

_FILE, _CLIENTS = "settings.json", "env"


class Kept(Record):
    """Secrets that what a stack keeps can only be read with; they go with its backup."""

    webhooks: str
    """With which MLflow keeps the secrets of webhooks; another one, and none is ever sent again."""
    paths: str
    """With which the store hashes the names of what it keeps; another one, and nothing is found."""


class Secrets(Kept):
    """Passwords and keys of a stack."""

    database: str
    prefect: str
    mlflow: str
    sessions: str
    """With which MLflow signs the sessions of its pages."""
    tenants: dict[str, str]


class Settings(Record):
    """Ports, by name of the part, and secrets of a stack."""

    ports: dict[str, int]
    secrets: Secrets

    def address(self, name: str) -> str:
        """Return the URL of a part that speaks HTTP."""
        return f"http://127.0.0.1:{self.ports[name]}"


def settle(folder: Path) -> Settings:
    """Return the settings of the stack in `folder`, drawn now if it is new, and write its `env`.

    Raises:
        UserError: They cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # before anything secret is in there
    if not (folder / _FILE).exists():
        write_record(folder / _FILE, _draw())
    settings = known(folder)
    lines = "".join(f"{name}={value}\n" for name, value in clients(settings).items())
    write_bytes(folder / _CLIENTS, lines.encode())
    for name in (_FILE, _CLIENTS):
        (folder / name).chmod(0o600)
    return settings


def known(folder: Path) -> Settings:
    """Return the settings of the stack in `folder`.

    Raises:
        UserError: There is no stack, or its settings cannot be read.
    """
    mend = "`python -m infra.local up` makes a stack in a new folder"
    return read_record(folder / _FILE, Settings, mend)


def take_over(folder: Path, kept: Kept) -> None:
    """Make the stack in `folder` read what another one has kept, once its servers start anew."""
    own = known(folder)
    taken = own.secrets.model_copy(update=kept.model_dump())
    write_record(folder / _FILE, own.model_copy(update={"secrets": taken}))


def clients(settings: Settings) -> dict[str, str]:
    """Return the environment of whoever uses the stack: people, flows, workers."""
    return {
        "PREFECT_API_URL": f"{settings.address(PREFECT)}/api",
        "PREFECT_API_AUTH_STRING": f"{USER}:{settings.secrets.prefect}",
        "MLFLOW_TRACKING_URI": settings.address(MLFLOW),
        "MLFLOW_TRACKING_USERNAME": USER,
        "MLFLOW_TRACKING_PASSWORD": settings.secrets.mlflow,
        "LCM_LORA_STORE": f"s3://{BUCKETS[WORKERS]}/store",
        **s3(settings, WORKERS),
    }


def s3(settings: Settings, tenant: str) -> dict[str, str]:
    """Return what any S3 client needs to be a tenant of the store."""
    return {
        "AWS_ENDPOINT_URL": settings.address(STORE),
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": f"{tenant}:{tenant}",
        "AWS_SECRET_ACCESS_KEY": settings.secrets.tenants[tenant],
        # The newer checksums of Amazon's clients are unknown to other stores.
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    }


def _draw() -> Settings:
    names = (DATABASE, STORE, *BACKENDS, PREFECT, MLFLOW)
    with contextlib.ExitStack() as held:
        doors = {name: held.enter_context(socket.create_server(("127.0.0.1", 0))) for name in names}
        ports = {name: door.getsockname()[1] for name, door in doors.items()}
    own = Secrets(
        database=secrets.token_urlsafe(24),
        prefect=secrets.token_urlsafe(24),
        mlflow=secrets.token_urlsafe(24),
        sessions=secrets.token_urlsafe(24),
        webhooks=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        tenants={tenant: secrets.token_urlsafe(24) for tenant in BUCKETS},
        paths=secrets.token_urlsafe(24),
    )
    return Settings(ports=ports, secrets=own)
