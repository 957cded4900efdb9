"""A small project with its remote; and Prefect's own server with a worker for both pools."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_project import Project, make_project


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of one commit that has never run, with an empty remote. Read only."""
    return make_project(tmp_path_factory.mktemp("fresh"))


@pytest.fixture
def project(fresh: Project, tmp_path: Path) -> Project:
    """The same, to be changed."""
    return fresh.copy(tmp_path)
