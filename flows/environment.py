"""The environment of a run: everything in the project's folder, nothing sent anywhere.

Prefect and MLflow read theirs while they are imported, so `flows` calls this first of all. What the
user has set stays.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lcm_lora.params.file import Params
    from lcm_lora.params.generate import Painter
    from lcm_lora.params.transfer import Subject

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


def stay_offline(params: Params) -> None:
    """Keep Hugging Face off the network, unless parameters name something by a hub id."""
    from lcm_lora.inventory.hub import is_hub_id  # not before `prepare`
    from lcm_lora.inventory.modules import is_published  # a fine-tune there may lie on the hub

    published = any(is_published(one.base) for one in _who(params) if one.base)
    if not published and not any(map(is_hub_id, _named(params))):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")


def _named(params: Params) -> Iterator[str]:
    """Yield whatever parameters name that may be on the hub: bases, an autoencoder, adapters."""
    who = _who(params)
    yield from filter(None, (params.base.model, params.base.vae, *(one.base for one in who)))
    for one in who:
        yield from one.adapters


def _who(params: Params) -> tuple[Painter | Subject, ...]:
    return (*params.generate.painters.values(), *params.transfer.subjects.values())
