"""Start scripts that load large libraries in a moment: fork them where those are loaded.

What starts is a process of its own all the same, with its own arguments, folder, environment and
exit status, and loads this project's code itself. Only others' libraries are there before.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PLACE = "WARM_START"
"""Variable of the environment that names the socket of the loaded process."""

_MOST = 1 << 17
"""Bytes of an order."""


@contextlib.contextmanager
def warm(folder: Path) -> Iterator[Path]:
    """Keep a process that has loaded the libraries; yield its socket, a file in `folder`."""
    place = folder / "warm.socket"
    # With threads of its own it could not be forked.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as server:
        try:
            assert server.stdout
            assert server.stdout.readline() == b"ready\n"
            yield place
        finally:
            server.kill()


def hand_over() -> None:
    """Run the script of this process in a fork of the loaded one, and end as it ends."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.connect(os.environ[PLACE])
        order = {"argv": sys.orig_argv, "cwd": os.getcwd(), "environ": dict(os.environ)}
        socket.send_fds(line, [json.dumps(order).encode()], [0, 1, 2])
        status = int(line.recv(16) or 1)
    if status < 0:
        os.kill(os.getpid(), -status)
    os._exit(status)


def _serve(place: str) -> None:
    """Fork for every order; return in the fork that is to run the script, ready for it."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(place)
    listener.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait
    print("ready", flush=True)  # noqa: T201
    while True:
        line, _ = listener.accept()
        if not os.fork():
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return _take(line)
        line.close()


def _take(line: socket.socket) -> None:
    message, files, _, _ = socket.recv_fds(line, _MOST, 3)
    child = os.fork()
    if child:
        line.send(str(_status(child, line)).encode())
        os._exit(0)
    line.close()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    _become(json.loads(message))


def _status(child: int, line: socket.socket) -> int:
    """Wait for a child and return how it ended; end it when nobody waits for it any more."""
    ended = os.pidfd_open(child)
    ready, _, _ = select.select([ended, line], [], [])
    if ended not in ready:
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _become(order: dict[str, Any]) -> None:
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environ"])
    sys.orig_argv = order["argv"]
    sys.path[:0] = [path for path in os.environ.get("PYTHONPATH", "").split(":") if path]
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]


if __name__ == "__main__":
    import peft  # noqa: F401
    import scipy.stats  # noqa: F401
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline  # noqa: F401
    from transformers import CLIPModel, CLIPTokenizer, Dinov2Model  # noqa: F401

    _serve(sys.argv[1])
    _, script, *rest = sys.orig_argv
    sys.argv = [script, *rest]
    runpy.run_path(script, run_name="__main__")
