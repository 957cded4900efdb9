"""Runs that want the same stage wait for one flow run; what one of them sent is its own to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, State
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed, Crashed

from lcm_lora.errors import UserError
from tasks.isolated.dispatch import at_once, have_made
from tasks.isolated.request import Order
from tasks.running.process import StoppedError
from tasks.running.stage import StageError
from tasks.servers.automations import LOST_AFTER
from tasks.servers.prefect_server import AWAY

POOL = "of-dispatch"
"""Of these tests alone: others deploy to the same server."""


class Sender:
    """A run that waits for a stage, in a thread of its own."""

    def __init__(self, pool: ThreadPoolExecutor, order: Order, is_made: bool = False) -> None:
        self.stop, self.said = threading.Event(), list[str]()
        arguments = (order, POOL, 2, self.said.append, self.stop, lambda: is_made)
        # A flow, since Prefect links what is sent in one.
        sending = flow(have_made, name="sender", validate_parameters=False)
        self.end: Future[Any] = pool.submit(copy_context().run, sending, *arguments)

    def says(self, words: str, times: int = 1) -> None:
        """Wait until it says something."""
        until = time.monotonic() + 60
        while sum(words in line for line in self.said) < times:
            assert not self.end.done(), self.end.exception()
            assert time.monotonic() < until, self.said
            time.sleep(0.05)


@pytest.fixture(scope="module")
def client(prefect_server: None) -> Iterator[SyncPrefectClient]:
    """A client of a server that has a deployment of stages, and no worker for it."""
    with get_client(sync_client=True) as opened:
        opened.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        made = opened.create_flow_from_name("run-stage")
        opened.create_deployment(made, POOL, work_pool_name=POOL)
        yield opened


@pytest.fixture
def send(client: SyncPrefectClient) -> Iterator[Callable[..., Sender]]:
    """Return what starts a run that waits for the same stage as all others of the test."""
    order = Order(stage="distill", key=str(time.time_ns()), commit="c", params="", inputs={})
    with ThreadPoolExecutor(4) as pool:
        started = list[Sender]()

        def start(is_made: bool = False) -> Sender:
            started.append(Sender(pool, order, is_made))
            return started[-1]

        yield start
        for sender in started:
            sender.stop.set()


def sent(client: SyncPrefectClient) -> list[FlowRun]:
    """Return the flow runs of stages, the newest one first."""
    runs = [run for run in client.read_flow_runs() if run.deployment_id]
    return sorted(runs, key=lambda run: run.created or 0, reverse=True)


def end(client: SyncPrefectClient, run: FlowRun, state: State[Any]) -> None:
    client.set_flow_run_state(run.id, state, force=True)


def test_who_is_stopped_cancels_what_it_sent_and_nobody_elses(
    client: SyncPrefectClient, send: Callable[..., Sender]
) -> None:
    first = send()
    first.says(f"distill: sent to pool {POOL} as flow run distill")
    stage, *before = sent(client)
    assert stage.parent_task_run_id is None, "else Prefect cancels it with its sender"
    second, third = send(), send()
    for other in (second, third):
        other.says(f"distill: found under way in pool {POOL} as flow run distill ({stage.id})")
    second.stop.set()
    assert isinstance(second.end.exception(60), StoppedError)
    state = client.read_flow_run(stage.id).state
    assert state is not None
    assert state.is_scheduled()

    first.stop.set()
    assert isinstance(first.end.exception(60), StoppedError)
    third.says("distill: cancelled by others; it is sent again")
    third.says(f"distill: sent to pool {POOL}")
    again, was, *rest = sent(client)
    assert (was.id, rest) == (stage.id, before)
    assert again.id != stage.id
    end(client, again, Completed())
    assert third.end.exception(60) is None


def test_who_cancels_a_stage_in_prefect_ends_the_run_that_sent_it(
    client: SyncPrefectClient, send: Callable[..., Sender]
) -> None:
    run = send()
    run.says(f"sent to pool {POOL}")
    end(client, sent(client)[0], State(type="CANCELLED"))
    error = run.end.exception(60)
    assert isinstance(error, StageError)
    assert str(error) == "cancelled in Prefect"


def test_a_worker_that_dies_is_followed_by_another_unless_it_was_done(
    client: SyncPrefectClient, send: Callable[..., Sender]
) -> None:
    run = send()
    for left in (2, 1, 0):
        run.says(f"sent to pool {POOL}", times=3 - left)
        end(client, sent(client)[0], Crashed(message="power cut"))
        if left:
            run.says(f"distill: lost its worker (power cut); {left} tries are left")
    error = run.end.exception(60)
    assert isinstance(error, StageError)
    assert str(error).startswith("lost its worker 3 times")

    done = send(is_made=True)
    done.says(f"sent to pool {POOL}")
    end(client, sent(client)[0], Crashed(message="power cut"))
    assert done.end.exception(60) is None
    assert not [line for line in done.said if "lost its worker" in line]
    assert sum("sent to pool" in line for line in done.said) == 1


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Return what a server answers next, each by its status; nothing more is 401."""
    statuses = list[int]()

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses.pop(0) if statuses else 401)
            self.end_headers()
            self.wfile.write(b'{"detail":\n "no such thing"}')

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{server.server_port}/api"}):
            yield statuses
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "does not let us in; set PREFECT_API_AUTH_STRING as it is set for the server"),
        (403, "does not let us in; set PREFECT_API_AUTH_STRING as it is set for the server"),
        (409, 'refused: {"detail": "no such thing"}'),
        (422, 'refused: {"detail": "no such thing"}'),
    ],
)
def test_a_refusal_is_told_at_once(answers: list[int], status: int, words: str) -> None:
    answers.extend([503, 429, status])  # away, too busy
    with pytest.raises(UserError, match=r"^Prefect at http://127\.0\.0\.1:\d+/api: ") as caught:
        at_once("gpu", threading.Event())
    assert str(caught.value).endswith(words)
    assert answers == []


def test_a_run_is_not_lost_while_the_server_is_away() -> None:
    """Two signs of life may be missed besides; job templates ask for one every 30 seconds."""
    assert LOST_AFTER.total_seconds() > AWAY.total_seconds() + 2 * 30
