"""A part of the stack: one process that outlives its starter, and all that it starts itself.

Each process of a part carries the part's name in its environment, as do its children. So they are
found however they came to be orphans, and none is left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from lcm_lora.records import Record, read_record, write_record

_MARK = "LCM_LORA_STACK_PART"
_NOT_OURS = ("PREFECT_", "MLFLOW_", "AWS_", "LCM_LORA_", "PG")
"""Variables of the starter's shell that would change what a part does."""

_GRACE = 8.0
"""Seconds between a polite signal and the last one."""


@dataclass(frozen=True, slots=True)
class Part:
    """How a part is started, and how one sees that it works.

    Attributes:
        name: Also the name of its log.
        command: Program and arguments; no secrets, since everybody on the machine can list them.
        environment: What it needs beyond the starter's variables.
        place: Where it runs.
        answers: Whether it works; gets the Unix time of its start.
        farewell: The signal that ends it in good order.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    place: Path
    answers: Callable[[float], bool]
    farewell: signal.Signals = signal.SIGTERM


class Started(Record):
    """A part's process, as noted when it was started."""

    pid: int
    born: float
    place: str
    farewell: int


def start(folder: Path, part: Part) -> None:
    """Start a part of the stack in `folder`; whatever is left of it from before is ended."""
    end(folder, [part.name])
    part.place.mkdir(parents=True, exist_ok=True)
    log = log_of(folder, part.name)
    log.parent.mkdir(exist_ok=True)
    theirs = {name: v for name, v in os.environ.items() if not name.startswith(_NOT_OURS)}
    with log.open("ab") as lines:
        child = subprocess.Popen(
            part.command,
            cwd=part.place,
            env={**theirs, **part.environment, _MARK: _mark(folder, part.name)},
            stdin=subprocess.DEVNULL,
            stdout=lines,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    born = psutil.Process(child.pid).create_time()
    where = str(part.place)
    note = Started(pid=child.pid, born=born, place=where, farewell=part.farewell)
    write_record(_note(folder, part.name), note)


def place_of(folder: Path, name: str) -> Path | None:
    """Return where a part was started, if it lives."""
    return Path(_noted(folder, name).place) if process_of(folder, name) else None


def process_of(folder: Path, name: str) -> psutil.Process | None:
    """Return the process that was started as a part, if it lives."""
    if name not in names(folder):
        return None
    note = _noted(folder, name)
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(note.pid)
        # Another process may have the number by now. The clock may have been set meanwhile.
        if abs(process.create_time() - note.born) < 2 and _lives(process):
            return process
    return None


def names(folder: Path) -> list[str]:
    """Return the parts that were started and not ended since."""
    return sorted(path.stem for path in (folder / "run").glob("*.json"))


def end(folder: Path, ended: Collection[str]) -> None:
    """End parts at once, in good order or else by force, with everything that they started."""
    family = _family(folder, ended)
    for name in ended:
        _ask_to_end(folder, name)
    _wait(family, _GRACE)
    kill(folder, ended)
    for name in ended:
        _note(folder, name).unlink(missing_ok=True)


def kill(folder: Path, killed: Collection[str]) -> None:
    """Kill parts as a crash would, with everything that they started; nothing is noted."""
    # Whoever was born meanwhile counts too, so look again until nobody is left.
    while family := _family(folder, killed):
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        _wait(family, 1)


def survivors(folder: Path) -> set[str]:
    """Return the names of parts of which any process lives, noted or not."""
    prefix = _mark(folder, "")
    return {mark.removeprefix(prefix) for _, mark in _marked() if mark.startswith(prefix)}


def log_of(folder: Path, name: str) -> Path:
    """Return where a part's output goes."""
    return folder / "logs" / f"{name}.log"


def _family(folder: Path, wanted: Collection[str]) -> list[psutil.Process]:
    marks = {_mark(folder, name) for name in wanted}
    family = {process for process, mark in _marked() if mark in marks}
    # PostgreSQL writes its title over its environment, so its family is known by descent alone.
    for name in wanted:
        if process := process_of(folder, name):
            with contextlib.suppress(psutil.NoSuchProcess):
                family |= {process, *process.children(recursive=True)}
    return list(family)


def _ask_to_end(folder: Path, name: str) -> None:
    process = process_of(folder, name)
    # A part knows in which order its family ends best. Orphans have nobody who knows.
    asked = [process] if process is not None else _family(folder, [name])
    number = signal.SIGTERM
    if process is not None:
        number = signal.Signals(_noted(folder, name).farewell)
    for one in asked:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.send_signal(number)


def _wait(family: Collection[psutil.Process], timeout: float) -> None:
    end = time.monotonic() + timeout
    while any(map(_lives, family)) and time.monotonic() < end:
        time.sleep(0.05)


def _lives(process: psutil.Process) -> bool:
    """Tell whether a process can still do something: a dead one may wait long to be buried."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _marked() -> Iterator[tuple[psutil.Process, str]]:
    for process in psutil.process_iter():
        # Others' processes do not show theirs, and are not ours.
        with contextlib.suppress(psutil.Error):
            if mark := process.environ().get(_MARK):
                yield process, mark


def _mark(folder: Path, name: str) -> str:
    return f"{folder.resolve()}:{name}"


def _noted(folder: Path, name: str) -> Started:
    return read_record(_note(folder, name), Started, "end that process and remove it")


def _note(folder: Path, name: str) -> Path:
    return folder / "run" / f"{name}.json"
