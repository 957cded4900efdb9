"""Have a worker of a pool carry out an order, and wait for its end.

Who dies on the way is no news about the stage, so it is sent again. What the stage itself, or the
worker about it, says is the end: the same would only be said again. Runs that want the same wait
for one flow run; whoever sent that may take it back, and the others then send their own.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeGuard, TypeVar, cast

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State, WorkerStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound, PrefectException, PrefectHTTPStatusError
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Cancelling

from lcm_lora.errors import UserError, reason
from tasks.isolated.request import Order
from tasks.running.process import StoppedError
from tasks.running.stage import StageError
from tasks.servers.prefect_server import AWAY, refusal

_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_TO_START = 20.0
"""After which it is said that no worker has taken the order yet."""
_NOT_NOW = frozenset({408, 429})
"""Among the refusals that a server answers: too slow, too many."""
_ALIVE = ["SCHEDULED", "PENDING", "RUNNING"]

_Answer = TypeVar("_Answer")
_Call = Callable[[SyncPrefectClient], _Answer]


def have_made(
    order: Order,
    pool: str,
    retries: int,
    say: Callable[[str], None],
    stop: threading.Event,
    is_made: Callable[[], bool] = lambda: False,
) -> None:
    """Send an order to a pool, again if its worker dies, until it is carried out.

    Args:
        order: What to make.
        pool: Whose workers may take it.
        retries: So often it is sent again.
        say: Gets news of it.
        stop: Once set, from any thread, what this call sent is cancelled.
        is_made: Asked before it is sent again; who made it may have died before saying so.

    Raises:
        StageError: The stage ended badly, was cancelled, or lost its worker too often.
        StoppedError: `stop` was set.
        UserError: The server has no such pool's deployment, refuses, or is away for long.
    """
    left = retries
    while True:
        others = _alive(order, stop)
        run = others or _send(order, pool, stop)
        how = "found under way in" if others else "sent to"
        say(f"{order.title}: {how} pool {pool} as flow run {run.name} ({run.id})")
        try:
            end = _end_of(run, pool, say, stop)
        except StoppedError:
            if not others:
                _cancel(run)
            raise
        if end.is_completed():
            return
        if end.is_failed():
            raise StageError(end.message or "failed without a word")
        if end.is_cancelled() and not others:
            raise StageError("cancelled in Prefect")
        if is_made():
            return
        if end.is_cancelled():
            say(f"{order.title}: cancelled by others; it is sent again")
            continue
        say(f"{order.title}: lost its worker ({end.message}); {left} tries are left")
        left -= 1
        if left < 0:
            raise StageError(
                f"lost its worker {retries + 1} times; see why in Prefect, and run again"
            )


def at_once(pool: str, stop: threading.Event) -> int:
    """Return how many orders a pool carries out at once: its limit, or else its workers there are.

    Raises:
        StoppedError: `stop` was set.
        UserError: The server is away for long, or has no such pool.
    """
    try:
        limit = _patiently(lambda client: client.read_work_pool(pool), stop).concurrency_limit
        workers = _patiently(lambda client: client.read_workers_for_work_pool(pool), stop)
    except ObjectNotFound:
        raise UserError(
            f"pool {pool}: Prefect has none; `python -m flows.deploy` makes it"
        ) from None
    return limit or sum(worker.status == WorkerStatus.ONLINE for worker in workers)


def _alive(order: Order, stop: threading.Event) -> FlowRun | None:
    """Return a flow run that makes the very same, such as for a run that has died since."""
    wanted = FlowRunFilter.model_validate(
        {"tags": {"all_": [_tag(order)]}, "state": {"type": {"any_": _ALIVE}}}
    )
    oldest = FlowRunSort.EXPECTED_START_TIME_ASC
    runs = _patiently(
        lambda client: client.read_flow_runs(flow_run_filter=wanted, sort=oldest, limit=1), stop
    )
    return next(iter(runs), None)


def _send(order: Order, pool: str, stop: threading.Event) -> FlowRun:
    name, once = f"run-stage/{pool}", uuid.uuid4().hex
    try:
        sent = _patiently(
            lambda _: run_deployment(
                name,
                parameters={"order": order.model_dump(mode="json")},
                flow_run_name=order.title,
                tags=[_tag(order)],
                idempotency_key=once,
                timeout=0,
                as_subflow=False,  # else Prefect cancels it with this run, though others wait
            ),
            stop,
        )
        return cast(FlowRun, sent)  # a coroutine where one runs, and there is none in a thread
    except ObjectNotFound:
        raise UserError(
            f"{order.stage}: Prefect has no deployment {name}; `python -m flows.deploy` makes it"
        ) from None


def _tag(order: Order) -> str:
    share = "" if order.share is None else f", {order.share}"
    return f"makes {order.key[:16]}{share}"


def _end_of(run: FlowRun, pool: str, say: Callable[[str], None], stop: threading.Event) -> State:
    """Wait for the end of a flow run.

    Raises:
        StoppedError: `stop` was set before.
        UserError: The server refuses, or is away for long.
    """
    since, has_said = time.monotonic(), False
    while True:
        try:
            run = _patiently(partial(_read, run), stop)
        except ObjectNotFound:
            return State(type="CRASHED", message="somebody deleted its flow run")
        state = run.state
        if state is not None and state.is_final():
            return state
        is_waiting = state is None or state.is_scheduled() or state.is_pending()
        if is_waiting and not has_said and time.monotonic() - since > _SECONDS_TO_START:
            say(f"{run.name}: waits for a worker of pool {pool}")
            has_said = True
        stop.wait(_SECONDS_BETWEEN_LOOKS)


def _read(run: FlowRun, client: SyncPrefectClient) -> FlowRun:
    return client.read_flow_run(run.id)


def _cancel(run: FlowRun) -> None:
    with contextlib.suppress(httpx.HTTPError, PrefectException), _client() as client:
        client.set_flow_run_state(run.id, Cancelling())


@contextlib.contextmanager
def _client() -> Iterator[SyncPrefectClient]:
    """Yield a client that gives up at once; Prefect's own patience hears of no stop."""
    with (
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
        get_client(sync_client=True) as client,
    ):
        yield client


def _patiently(call: _Call[_Answer], stop: threading.Event) -> _Answer:
    """Call the server, again while it is away.

    Raises:
        ObjectNotFound: It does not have what is asked for.
        StoppedError: `stop` was set.
        UserError: It refuses, or is away for long.
    """
    since = time.monotonic()
    while True:
        if stop.is_set():
            raise StoppedError("stopped")
        try:
            with _client() as client:
                return call(client)
        except ObjectNotFound:
            raise
        except (httpx.HTTPError, PrefectException) as error:
            if _is_refusal(error):
                raise refusal(error) from None
            if time.monotonic() - since > AWAY.total_seconds():
                raise UserError(f"Prefect does not answer: {reason(error)}; start it") from None
        stop.wait(_SECONDS_BETWEEN_LOOKS)


def _is_refusal(error: Exception) -> TypeGuard[PrefectHTTPStatusError]:
    """Tell whether the server would only say the same again."""
    if not isinstance(error, PrefectHTTPStatusError):
        return False
    return 400 <= error.response.status_code < 500 and error.response.status_code not in _NOT_NOW
