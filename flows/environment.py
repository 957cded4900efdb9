"""The environment of a run: everything in the project's folder, nothing sent anywhere.

Prefect and MLflow read theirs while they are imported, so `flows` calls this first of all. What the
user has set stays.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lcm_lora.params.base import Base

_QUIET = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DVC_NO_ANALYTICS": "1",
    "GIT_PYTHON_REFRESH": "quiet",
}

_SERVERLESS = {
    # Without PREFECT_API_URL the first flow starts a server of its own and ends it.
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}

_READABLE = {
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "PREFECT_LOGGING_FORMATTERS_STANDARD_FORMAT": "%(asctime)s | %(message)s",
    "PREFECT_LOGGING_FORMATTERS_STANDARD_FLOW_RUN_FMT": "%(asctime)s | %(flow_name)s | %(message)s",
    "PREFECT_LOGGING_FORMATTERS_STANDARD_TASK_RUN_FMT": (
        "%(asctime)s | %(task_run_name)s | %(message)s"
    ),
}


def prepare() -> None:
    """Set every variable that is not set yet; paths are those of the working directory."""
    here = Path.cwd()
    places = {
        "PREFECT_HOME": str(here / ".prefect"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{here / '.mlflow' / 'mlflow.db'}",
    }
    for name, value in {**_QUIET, **_SERVERLESS, **_READABLE, **places}.items():
        os.environ.setdefault(name, value)


def stay_offline(base: Base) -> None:
    """Keep Hugging Face off the network, unless base or autoencoder is named by a hub id."""
    named = [name for name in (base.model, base.vae) if name is not None]
    if all(name == "shapes" or Path(name).exists() for name in named):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
