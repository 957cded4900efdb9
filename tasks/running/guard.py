"""Keep a command's whole family on a lead: when the owner lets go or dies, none of it survives.

Runs as a process of its own, `python guard.py GRACE COMMAND...`, between the owner and the command.
The owner holds the other end of standard input. Each byte there is the number of a signal for the
command. End of file there, for whatever reason, SIGKILL of the owner included, means: stop
everything. So nothing depends on the owner's last words.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys

import psutil

_PR_SET_CHILD_SUBREAPER = 36
_SECONDS_BETWEEN_LOOKS = 0.1


def guard(grace: float, command: list[str]) -> int:
    """Run `command` until it ends or standard input does; return its exit status.

    The command is told to end first, since it knows in which order its family ends best; then
    whoever is left.

    Args:
        grace: Seconds between a polite signal and the last one.
        command: Program and arguments.
    """
    adopt_orphans()
    # A handler, not SIG_IGN: children would inherit that.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    while child.poll() is None and _obey(child):
        pass
    child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(grace)
    sweep(grace)
    return child.wait()


def adopt_orphans() -> None:
    """Become the parent of orphaned descendants, also of those in sessions of their own."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def sweep(grace: float) -> None:
    """End every descendant of this process: SIGTERM, `grace` seconds, SIGKILL."""
    family = psutil.Process().children(recursive=True)
    _signal(family, signal.SIGTERM)
    psutil.wait_procs(family, timeout=grace)
    # Whoever was born meanwhile counts too, so look again until nobody is left.
    while family := _alive():
        _signal(family, signal.SIGKILL)
        psutil.wait_procs(family, timeout=1)


def _alive() -> list[psutil.Process]:
    alive = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
        except psutil.NoSuchProcess:
            continue
    return alive


def _signal(family: list[psutil.Process], number: signal.Signals) -> None:
    for process in family:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def _obey(child: subprocess.Popen[bytes]) -> bool:
    """Wait a moment for signals to pass on; say whether the owner still holds its end."""
    readable, _, _ = select.select([sys.stdin], [], [], _SECONDS_BETWEEN_LOOKS)
    if not readable:
        return True
    orders = os.read(sys.stdin.fileno(), 1)
    for number in orders:
        child.send_signal(number)
    return bool(orders)


if __name__ == "__main__":
    status = guard(float(sys.argv[1]), sys.argv[2:])
    sys.exit(status if status >= 0 else 128 - status)
