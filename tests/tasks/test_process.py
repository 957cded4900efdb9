"""A child process ends as a family, however it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from tasks.running import process

# A child that ignores SIGTERM, and a grandchild that does too, in a session of its own.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(os.path.join(sys.argv[1], str(os.getpid())), "w").close()
if len(sys.argv) == 2:
    subprocess.Popen([sys.executable, __file__, sys.argv[1], "last"], start_new_session=True)
    print("started", flush=True)
time.sleep(600)
"""


@pytest.fixture
def stubborn(tmp_path: Path) -> list[str]:
    script = tmp_path / "stubborn.py"
    script.write_text(STUBBORN)
    (tmp_path / "pids").mkdir()
    return [sys.executable, str(script), str(tmp_path / "pids")]


def family(command: list[str]) -> list[int]:
    """Wait for the child and the grandchild; return their ids."""
    end = time.monotonic() + 60
    while len(pids := os.listdir(command[-1])) < 2:
        assert time.monotonic() < end, "the family was never whole"
        time.sleep(0.02)
    return [int(pid) for pid in pids]


def survivors(pids: list[int], patience: float = 0) -> list[psutil.Process]:
    """Return those that live, after `patience` seconds in which they may end."""
    alive = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            alive.append(psutil.Process(pid))
    return psutil.wait_procs(alive, timeout=patience)[1]


def run(command: list[str], folder: Path, **options: object) -> list[str]:
    lines: list[str] = []
    settings = {"stop": threading.Event(), "grace": 0.3, "on_line": lines.append} | options
    process.run(command, folder=folder, environment=os.environ, **settings)
    return lines


def test_lines_of_both_streams_and_the_exit_status(tmp_path: Path) -> None:
    code = "import sys; print('one', flush=True); print('two', file=sys.stderr); sys.exit(3)"
    lines: list[str] = []
    status = process.run(
        [sys.executable, "-c", code],
        lines.append,
        folder=tmp_path,
        environment=os.environ,
        stop=threading.Event(),
    )
    assert (lines, status) == (["one", "two"], 3)


def test_lines_come_while_the_process_runs(tmp_path: Path) -> None:
    code = (
        "import os, time; print('go', flush=True)\n"
        "while not os.path.exists('seen'): time.sleep(0.02)"
    )
    seen = tmp_path / "seen"
    run([sys.executable, "-c", code], tmp_path, on_line=lambda line: seen.touch())
    assert seen.exists()


def test_a_deadline_leaves_no_survivors(stubborn: list[str], tmp_path: Path) -> None:
    for seconds in (3, 15, 60):  # a machine that stands still for a while starts both later
        with pytest.raises(process.OverdueError, match=f"{seconds} s"):
            run(stubborn, tmp_path, deadline=seconds)
        if len(os.listdir(stubborn[-1])) >= 2:
            break
    assert survivors(family(stubborn)) == []


def test_a_stop_leaves_no_survivors(stubborn: list[str], tmp_path: Path) -> None:
    stop = threading.Event()
    threading.Thread(target=lambda: (family(stubborn), stop.set())).start()
    with pytest.raises(process.StoppedError):
        run(stubborn, tmp_path, stop=stop)
    assert survivors(family(stubborn)) == []


def test_an_exception_leaves_no_survivors(stubborn: list[str], tmp_path: Path) -> None:
    def fail(line: str) -> None:
        family(stubborn)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(stubborn, tmp_path, on_line=fail)
    assert survivors(family(stubborn)) == []


def test_a_process_that_ends_takes_what_it_left_behind_along(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "print(child.pid)"
    )
    (pid,) = run([sys.executable, "-c", code], tmp_path)
    assert survivors([int(pid)]) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_death_of_the_owner_leaves_no_survivors(
    stubborn: list[str], tmp_path: Path, number: signal.Signals
) -> None:
    code = (
        "import os, pathlib, sys, threading; from tasks.running import process\n"
        "process.run(sys.argv[1:], print, folder=pathlib.Path('.'), environment=os.environ,"
        " stop=threading.Event(), grace=0.3)"
    )
    root = Path(process.__file__).parents[2]
    owner = subprocess.Popen(
        [sys.executable, "-c", code, *stubborn],
        env={**os.environ, "PYTHONPATH": str(root)},
        stderr=subprocess.DEVNULL,
    )
    pids = family(stubborn)
    owner.send_signal(number)
    owner.wait()
    assert survivors(pids, patience=30) == []


def attached(*command: str) -> subprocess.Popen[str]:
    """Start a process that runs a command in its own stead."""
    code = (
        "import sys; from tasks.running import process\n"
        "sys.exit(process.run_attached(sys.argv[1:], grace=0.3))"
    )
    root = Path(process.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *command], env=environment, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_attached_command_gets_the_signals_and_says_how_it_ended(number: signal.Signals) -> None:
    code = (
        "import signal, sys, time\n"
        f"signal.signal({number:d}, lambda *_: sys.exit(7))\n"
        "print('ready', flush=True); time.sleep(600)"
    )
    owner = attached(sys.executable, "-c", code)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "ready\n"
    owner.send_signal(number)
    assert owner.wait(30) == 7


@pytest.mark.parametrize("victim", ["owner", "guard"])
def test_the_death_of_owner_or_guard_leaves_no_survivors(stubborn: list[str], victim: str) -> None:
    owner = attached(*stubborn)
    pids = family(stubborn)
    (guard,) = psutil.Process(owner.pid).children()
    (owner if victim == "owner" else guard).kill()
    assert owner.wait(30) == (-9 if victim == "owner" else 137)
    assert survivors([guard.pid, *pids], patience=30) == []


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (-9, "killed by signal 9 (SIGKILL)"),
        (143, "killed by signal 15 (SIGTERM)"),
        (0, None),
        (3, None),
        (128, None),
        (255, None),
    ],
)
def test_a_death_is_told_from_an_exit(status: int, said: str | None) -> None:
    assert process.death(status) == said
