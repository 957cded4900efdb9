"""A registered model in a real MLflow on SQLite."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from promoting import Model, mlflow_in


@pytest.fixture(scope="session")
def _place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="module")
def client(_place: Path) -> Iterator[MlflowClient]:
    """An MLflow that a module's tests share; its database takes seconds to make."""
    with mlflow_in(_place) as made:
        yield made


@pytest.fixture
def model(client: MlflowClient, tmp_path: Path, request: pytest.FixtureRequest) -> Model:
    """A registered model of the test's own."""
    return Model(client, re.sub(r"\W", " ", request.node.name), tmp_path)
