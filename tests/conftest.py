"""What several rooms' tests share: a small project on the shapes world, encoded once."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
import torch
import warm_start
from browsers import CHROMIUM
from making import make_cache, make_data, shapes_base
from xdist.scheduler import LoadScopeScheduling

from lcm_lora.bases import Base
from lcm_lora.hashes import Hashes
from lcm_lora.params.sources import ShapesSource

torch.set_num_threads(1)
# A machine that others use too stands still now and then, and that is no failure.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")
# Or each of its commands starts another process, which reports it to DVC's makers.
os.environ["DVC_NO_ANALYTICS"] = "1"

_LONGEST = ("flows", "training", "shapes", "tasks")
"""Rooms that begin before all others, so that at the end no worker waits for another."""


class ByRoom(LoadScopeScheduling):
    """Gives a whole room to a worker: what its tests share is made once."""

    def _split_scope(self, nodeid: str) -> str:
        return room_of(nodeid)


def room_of(nodeid: str) -> str:
    """Return a test's folder, or its file where that is in none."""
    _, room, *_ = nodeid.partition("::")[0].split("/")
    return room


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByRoom:
    return ByRoom(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the longest rooms begin first."""
    order = {room: place for place, room in enumerate(_LONGEST)}
    items.sort(key=lambda item: order.get(room_of(item.nodeid), len(order)))


def pytest_configure() -> None:
    """Let Ctrl-C reach what tests start, though a background job would ignore it for them."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say where a browser was missing: its tests cannot run then, and nothing else tells."""
    if CHROMIUM is None:
        terminalreporter.write_line(
            "left out: the report's page in a browser; install chromium, or run "
            "`playwright install chromium`"
        )


@pytest.fixture(scope="session")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Large libraries, loaded once for all that is started by tests which ask for it."""
    with warm_start.warm(tmp_path_factory.mktemp("warm")) as place:
        yield place


@pytest.fixture
def warm_starts(loaded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork what the test starts from a process that has the libraries."""
    for name, value in warm_start.environment(loaded).items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A Prefect server, of which this process and what it starts are clients."""
    from prefect.testing.utilities import prefect_test_harness

    with contextlib.ExitStack() as stack:
        for tries_left in (2, 1, 0):
            try:
                stack.enter_context(prefect_test_harness(server_startup_timeout=120))
                break
            except httpx.TimeoutException:  # a machine that stands still while the server begins
                if not tries_left:
                    raise
        yield


@pytest.fixture
def base() -> Base:
    """The shapes base, fresh: what a test attaches to it is gone with the test."""
    return shapes_base()


@pytest.fixture
def hashes(tmp_path: Path) -> Iterator[Hashes]:
    """Hashes of a test's own."""
    with Hashes(tmp_path / ".hashes" / "hashes.sqlite") as opened:
        yield opened


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of ninety scenes, a third of them held out, prepared and encoded. Read only."""
    folder = tmp_path_factory.mktemp("project")
    source = ShapesSource(count=90, seed=5)
    make_data(folder, source, held_out=0.33, selection=0.05, shard_samples=25)
    make_cache(folder, batch=32)
    return folder


@pytest.fixture(scope="session")
def cache(data: Path) -> Path:
    """The cache of `data`."""
    return data / "data" / "cache"
