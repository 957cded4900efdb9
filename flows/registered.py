"""The project's registered model, for flows that look at it and need nothing that stages made."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from mlflow.exceptions import MlflowException

from flows import environment, worker
from lcm_lora import layout
from lcm_lora.errors import UserError, reason
from lcm_lora.params.file import Params, load_params
from tasks.tracking.connecting import connect
from tasks.tracking.tracker import Tracker


@contextlib.contextmanager
def reached() -> Iterator[tuple[Tracker, Params]]:
    """Yield the project's place in MLflow, and its parameters.

    Raises:
        UserError: Parameters are wrong, or MLflow did not answer, or not as it should have.
    """
    root = worker.project()
    params = load_params(root / layout.PARAMS)
    environment.stay_offline(params)
    tracker = connect(root, params.registry.experiment)
    with answering(params.registry.name):
        yield tracker, params


@contextlib.contextmanager
def answering(name: str) -> Iterator[None]:
    """Say in one line what MLflow refuses about a registered model.

    Raises:
        UserError: It refused something, or did not answer.
    """
    try:
        yield
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise UserError(
                f"registered model {name}: {reason(error)}; `python -m flows.retrain` registers "
                "the adapter of the project"
            ) from None
        raise UserError(
            f"registered model {name}: MLflow did not take or give something ({reason(error)}); "
            "run again"
        ) from None
