"""The team's stack, brought up once: see `infra.local`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from team_stack import Stack

from infra.local import settings
from infra.local import stack as whole

HERE = Path(__file__).parent
_DOWN_AFTERWARDS = 'cat; exec "$0" -m infra.local down --folder "$1"'


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, so that no run of all tests starts servers."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("long")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield the stack with all its servers up and no worker; it is gone afterwards."""
    folder = tmp_path_factory.mktemp("stack") / ".stack"
    said: list[str] = []
    # However this process ends, killed too, the pipe is closed.
    command = ["sh", "-c", _DOWN_AFTERWARDS, sys.executable, str(folder)]
    root, pipe = HERE.parents[1], subprocess.PIPE
    with subprocess.Popen(command, cwd=root, stdin=pipe, start_new_session=True):
        whole.up(folder, said.append)
        yield Stack(folder, settings.clients(settings.known(folder)), said)
