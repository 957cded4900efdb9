"""An MLflow that tests share: to make its database takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def _mlflow_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="module")
def mlflow_folder(_mlflow_folder: Path) -> Iterator[Path]:
    """The folder of an MLflow, which a module's tests are at."""
    with pytest.MonkeyPatch.context() as patch:
        database = _mlflow_folder / ".mlflow" / "mlflow.db"
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
        yield _mlflow_folder
