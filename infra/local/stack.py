"""The stack as a whole: up, down, and how its parts are."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.local import backup, database, parts, servers, settings, store, workers
from infra.local.parts import Part
from infra.local.settings import BACKENDS, DATABASE, MLFLOW, PREFECT, STORE, Settings
from infra.local.waiting import last_words, wait_for
from lcm_lora.errors import UserError
from lcm_lora.locks import locked

Say = Callable[[str], None]

_SECONDS_FOR_A_PORT = 5.0
_LOOKS = 3
"""That find a part silent, before it is said to be: the machine itself may have stood still."""


@dataclass(frozen=True, slots=True)
class Condition:
    """How a part is: `well`, `silent` (it lives and does not answer), `dead` or `down`."""

    name: str
    word: str
    about: str


def up(folder: Path, say: Say) -> None:
    """Start whatever servers do not run, and wait until all of them work.

    Args:
        folder: Where the stack keeps all that it has.
        say: Gets a line for each part.

    Raises:
        UserError: A part cannot start; the others are left as they are.
    """
    with _alone(folder):
        own = settings.settle(folder)
        database.make(folder, own)
        store.make(folder, own)
        servers.make(folder, own)
        ground, objects = database.part(folder, own), store.parts(folder, own)
        _start(folder, own, [ground, *objects])
        wait_for(folder, [ground], say)
        database.make_databases(own)
        pages = servers.parts(folder, own)
        _start(folder, own, pages)
        wait_for(folder, objects, say)
        store.make_buckets(own)
        wait_for(folder, pages, say)


def employ(folder: Path, project: Path, names: Collection[str], say: Say) -> None:
    """Start workers that do not run, or that work in another project; the servers are up.

    Args:
        folder: Of the stack.
        project: The clone of the project that they work in.
        names: Of the workers: see `workers.part`.
        say: Gets a line for each.

    Raises:
        UserError: One cannot start.
    """
    with _alone(folder):
        own = settings.known(folder)
        hands = [workers.part(folder, own, name, project) for name in names]
        _start(folder, own, hands)
        wait_for(folder, hands, say)


def is_deployed(folder: Path) -> bool:
    """Tell whether the stack, whose servers are up, has the pools that the project deploys."""
    return workers.is_deployed(settings.known(folder))


def down(folder: Path) -> None:
    """End all of it: first who asks, then who is asked.

    Raises:
        UserError: There is no stack.
    """
    settings.known(folder)
    with _alone(folder):
        there = parts.survivors(folder) | set(parts.names(folder))
        pages, ground = {PREFECT, MLFLOW}, {DATABASE, STORE, *BACKENDS}
        for group in (there - pages - ground, there & pages, there & ground):
            parts.end(folder, group)


def save(folder: Path, file: Path) -> None:
    """Write what the databases hold to `file`, while everything runs.

    Raises:
        UserError: There is no stack, or its database is down.
    """
    backup.save(file, folder, settings.known(folder))


def load(folder: Path, file: Path, say: Say) -> None:
    """Make the databases what they were when `file` was written; the servers start anew.

    Raises:
        UserError: It is no backup, or the database is down; everything is as before.
    """
    own = settings.known(folder)
    with _alone(folder), backup.unpacked(file) as (dumps, kept):
        database.fill_beside(dumps, folder, own)
        parts.end(folder, [PREFECT, MLFLOW, STORE, *BACKENDS])
        database.swap(dumps, own)
        backup.admit(own)
        settings.take_over(folder, kept)
    up(folder, say)


def conditions(folder: Path) -> list[Condition]:
    """Return how each part is that belongs to the stack, or was started and not ended.

    Raises:
        UserError: There is no stack.
    """
    own = settings.known(folder)
    noted = parts.names(folder)
    core = [database.part(folder, own), *store.parts(folder, own), *servers.parts(folder, own)]
    hands = [workers.part(folder, own, n, folder) for n in noted if n.startswith("worker-")]
    return [_condition(folder, own, part, part.name in noted) for part in core + hands]


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with locked(folder / "lock", "another command on this stack"):
        yield


def _start(folder: Path, own: Settings, wanted: Collection[Part]) -> None:
    for part in wanted:
        if parts.place_of(folder, part.name) == part.place:
            continue
        parts.end(folder, [part.name])
        _await_port(own, part.name)
        parts.start(folder, part)


def _await_port(own: Settings, name: str) -> None:
    """Wait a moment until a part's port is free: the last threads of its forerunner hold it."""
    end = time.monotonic() + _SECONDS_FOR_A_PORT
    while name in own.ports:
        try:
            socket.create_server(("127.0.0.1", own.ports[name])).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                where = f"{name}: its port {own.ports[name]}"
                raise UserError(f"{where} is taken; end the program that has it") from error
        time.sleep(0.1)


def _condition(folder: Path, own: Settings, part: Part, is_noted: bool) -> Condition:
    process = parts.process_of(folder, part.name)
    if process is None and is_noted:
        return Condition(part.name, "dead", last_words(folder, part.name))
    if process is None:
        return Condition(part.name, "down", "not started")
    where = own.address(part.name) if part.name in own.ports else "takes flow runs"
    born = process.create_time()
    if any(part.answers(born) for _ in range(_LOOKS)):
        return Condition(part.name, "well", where)
    return Condition(part.name, "silent", last_words(folder, part.name))
