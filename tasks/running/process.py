"""Run a child process with live lines, a deadline, and no survivors."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

from tasks.running import guard

_SECONDS_BETWEEN_LOOKS = 0.2


class StoppedError(Exception):
    """The process was ended because its owner asked for it."""


class OverdueError(Exception):
    """The process was ended because it ran longer than it may."""


def run(
    command: Sequence[str],
    on_line: Callable[[str], None],
    *,
    folder: Path,
    environment: Mapping[str, str],
    stop: threading.Event,
    deadline: float | None = None,
    grace: float = 10.0,
    on_end: Callable[[float], object] = lambda cpu_seconds: None,
) -> int:
    """Run `command` to its end and return its exit status.

    However this call ends, by an exception of `on_line` or by the death of this very process, no
    descendant of the command is left: see `tasks/running/guard.py`.

    Args:
        command: Program and arguments.
        on_line: Gets every line of standard output and standard error, as they come.
        folder: Where the command runs.
        environment: All its variables.
        stop: Once set, from any thread, the command is ended.
        deadline: Seconds the command may take.
        grace: Seconds between SIGTERM and SIGKILL.
        on_end: Gets the CPU seconds that the command and its descendants took.

    Raises:
        StoppedError: `stop` was set.
        OverdueError: The deadline has passed.
    """
    if stop.is_set():
        raise StoppedError("stopped")
    child = subprocess.Popen(
        _guarded(command, grace),
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        _follow(child.stdout, on_line, stop, deadline)
    finally:
        child.stdin.close()  # the guard takes this as the order to stop
        on_end(_wait(child))
    return int(child.returncode)


@dataclass(frozen=True)
class Heard:
    """How a command ended, and what it said."""

    status: int
    lines: Sequence[str]

    def said(self, mark: str) -> str:
        """Return the last line that begins with a mark, without it; empty if none does."""
        marked = (line.removeprefix(mark) for line in reversed(self.lines) if line.startswith(mark))
        return next(marked, "")

    def why(self, mark: str) -> str:
        """Return why it ended badly: its last line with a mark, a signal, or its last words."""
        last = self.lines[-1] if self.lines else f"ended with exit status {self.status}"
        return self.said(mark) or death(self.status) or last


def heard(
    command: Sequence[str],
    folder: Path,
    say: Callable[[str], None] = lambda line: None,
    deadline: float | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Heard:
    """Run a command to its end in a folder, and keep every line of it.

    Args:
        command: Program and arguments.
        folder: Where it runs.
        say: Gets every line, as they come.
        deadline: Seconds that it may take.
        environment: All its variables.

    Raises:
        OverdueError: The deadline has passed.
    """
    lines: list[str] = []

    def take(line: str) -> None:
        lines.append(line)
        say(line)

    never = threading.Event()
    status = run(
        command, take, folder=folder, environment=environment, stop=never, deadline=deadline
    )
    return Heard(status, lines)


def run_attached(command: Sequence[str], grace: float = 10.0) -> int:
    """Run `command` on this process's own terminal, in its stead, and return its exit status.

    SIGINT and SIGTERM are passed on to the command, unless this process was started to ignore them.
    No descendant of the command is left, also if this process is killed, as with `run`, or the
    guard is. An end by signal 9 is an exit status of 137, as in a shell.
    """
    guard.adopt_orphans()
    orders, pen = os.pipe()

    def pass_on(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(pen, bytes([number]))

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, pass_on)
    # In a session of its own, a Ctrl-C reaches the command by this way alone.
    child = subprocess.Popen(_guarded(command, grace), stdin=orders, start_new_session=True)
    os.close(orders)
    status = child.wait()
    guard.sweep(grace)
    return status if status >= 0 else 128 - status


def end_with_parent(grace: float = 20.0) -> None:
    """End this process soon after its parent has died, such as a worker.

    Args:
        grace: Seconds between SIGTERM and SIGKILL.
    """
    parent = os.getppid()

    def watch() -> None:
        # Not the system's own signal: that comes when the parent's thread ends, too.
        while os.getppid() == parent:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def death(status: int) -> str | None:
    """Say which signal ended a process, by its exit status or a shell's; None if none did."""
    number = -status if status < 0 else status - 128
    try:
        name = signal.Signals(number).name
    except ValueError:
        return None
    return f"killed by signal {number} ({name})"


def _wait(child: subprocess.Popen[str]) -> float:
    """Wait for a child to end; return the CPU seconds of it and of those that it waited for."""
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


def _guarded(command: Sequence[str], grace: float) -> list[str]:
    return [sys.executable, str(guard.__file__), str(grace), *command]


def _follow(
    output: IO[str],
    on_line: Callable[[str], None],
    stop: threading.Event,
    deadline: float | None,
) -> None:
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_pump, args=(output, lines), daemon=True).start()
    end = time.monotonic() + deadline if deadline is not None else float("inf")
    while True:
        try:
            line = lines.get(timeout=_SECONDS_BETWEEN_LOOKS)
        except queue.Empty:
            line = ""
        if line is None:
            return
        if line:
            on_line(line.rstrip("\n"))
        if stop.is_set():
            raise StoppedError("stopped")
        if time.monotonic() > end:
            raise OverdueError(f"still running after {deadline:.0f} s")


def _pump(output: IO[str], lines: queue.SimpleQueue[str | None]) -> None:
    with output:
        for line in output:
            lines.put(line)
    lines.put(None)
