"""Where a run works: in the project's folder, one at a time; or at a desk, on others' machines."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from mlflow.exceptions import MlflowException
from prefect.settings import PREFECT_API_URL

from flows import environment
from flows.worker import end_with_worker, project
from lcm_lora import layout
from lcm_lora.check import check_params
from lcm_lora.errors import UserError, explained, reason
from lcm_lora.locks import locked
from lcm_lora.params.file import Params, load_params
from tasks.isolated.checkout import check_installed, checkout, resolve, text_of
from tasks.isolated.desk import desk, last_lock
from tasks.isolated.request import Request, overridden
from tasks.running.mending import mend
from tasks.running.stage import Workshop
from tasks.tracking.connecting import connect
from tasks.tracking.tracker import Tracker


@dataclass(frozen=True)
class Workspace:
    """The folder in which a run works."""

    root: Path
    project: Path
    """The clone that it belongs to; in a shared workspace, the same."""
    commit: str | None
    """Of which it is a checkout; None in a shared one."""

    @property
    def is_shared(self) -> bool:
        """Tell whether everything happens in the project's own folder."""
        return self.commit is None

    def params(self) -> Params:
        """Return the parameters, and stay off the network unless they name something there.

        Raises:
            UserError: They are wrong, or contradict each other.
        """
        params = load_params(self.root / layout.PARAMS)
        check_params(params)
        environment.stay_offline(params)
        return params

    def tracker(self, params: Params) -> Tracker:
        """Return the project's place in MLflow.

        Raises:
            UserError: MLflow does not answer.
        """
        known = connect(self.project, params.registry.experiment)
        return replace(known, root=self.root)

    @contextlib.contextmanager
    def workshop(self, tracker: Tracker, params: Params) -> Iterator[Workshop]:
        """Yield where stages run.

        Raises:
            UserError: What the repository tracks and parameters name cannot be had.
        """
        if self.commit is None:
            yield Workshop(self.root, params.retrain.workers)
            return
        with desk(self.root, self.commit, last_lock(tracker, params.registry.name)) as opened:
            yield opened


@contextlib.contextmanager
def opened(request: Request) -> Iterator[Workspace]:
    """Yield the workspace that is asked for, while the block runs.

    Raises:
        UserError: It cannot be had; or in the block a file or database of it cannot be used, or
            MLflow is lost.
    """
    try:
        with _place(request) as place:
            yield place
    except (OSError, sqlite3.OperationalError) as error:
        raise UserError(explained(error)) from None
    except MlflowException as error:
        raise UserError(
            f"MLflow did not take or give something ({reason(error)}); run again"
        ) from None


@contextlib.contextmanager
def _place(request: Request) -> Iterator[Workspace]:
    end_with_worker()
    request.check()
    here = project()
    if request.workspace == "shared":
        with alone(here):
            for line in mend(here):
                sys.stderr.write(f"{line}\n")
            yield Workspace(here, here, None)
        return
    if not PREFECT_API_URL.value():
        raise UserError(
            "PREFECT_API_URL: not set, and an isolated run needs a server that workers ask for "
            "orders; set it, or run without --isolated"
        )
    commit = resolve(here, request.revision)
    check_installed(here, commit)
    params = overridden(text_of(here, commit, layout.PARAMS), request.overrides)
    with checkout(here, commit, params) as root:
        yield Workspace(root, here, commit)


def alone(root: Path) -> AbstractContextManager[None]:
    """Hold a project's folder while the block runs; wait, and say so, while another flow does."""
    return locked(root / layout.CHECKPOINTS / "flow.lock", "another flow in this folder to end")
