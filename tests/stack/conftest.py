"""The team's stack, brought up once: see `infra.local`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from team_stack import Stack

from infra.local import settings
from infra.local import stack as whole

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, so that no run of all tests starts servers."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("stack")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield the stack with all its servers up and no worker; it is gone afterwards."""
    folder = tmp_path_factory.mktemp("stack") / ".stack"
    said: list[str] = []
    try:
        whole.up(folder, said.append)
        yield Stack(folder, settings.clients(settings.known(folder)), said)
    finally:
        whole.down(folder)
