"""Start programs that load large libraries in a moment: fork them where those are loaded.

They are the stages, DVC, and the flows. What starts is a process of its own all the same, with its
own arguments, folder, environment and exit status, and loads this project's code itself. Only
others' libraries are there before.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
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


def environment(place: Path, *modules: Path) -> dict[str, str]:
    """Return the variables by which what is started is forked from a loaded process.

    Args:
        place: Its socket.
        modules: Folders of modules of the program's own, the first one first.
    """
    known = filter(None, os.environ.get("PYTHONPATH", "").split(":"))
    path = [*map(str, modules), str(HERE / "warm"), *known]
    return {PLACE: str(place), "PYTHONPATH": ":".join(path)}


def hand_over() -> None:
    """Run the program of this process in a fork of the loaded one, if there is one."""
    if PLACE not in os.environ:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.connect(os.environ[PLACE])
        order = {"argv": sys.orig_argv, "cwd": os.getcwd(), "environ": dict(os.environ)}
        socket.send_fds(line, [json.dumps(order).encode()], [0, 1, 2])
        status = int(line.recv(16) or 1)
    if status < 0:
        os.kill(os.getpid(), -status)
    os._exit(status)


def _serve(place: str) -> None:
    """Fork for every order; return in the fork that is to run the program, ready for it."""
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


def _run(*command: str) -> int:
    """Run a program to its end, as Python does; return its exit status."""
    sys.argv = list(command[command[0] == "-m" :])
    status = 0
    try:
        if command[0] == "-m":
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(command[0], run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


if __name__ == "__main__":
    # Prefect is not among them: it reads the environment while it loads.
    import mlflow.pyfunc
    import mlflow.store.model_registry.sqlalchemy_store  # noqa: F401
    import peft  # noqa: F401
    import scipy.stats  # noqa: F401
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline  # noqa: F401
    from transformers import CLIPModel, CLIPTokenizer, Dinov2Model  # noqa: F401

    # Who touches what is shared has it copied: so nobody collects it, nor clears it up at the end.
    gc.collect()
    gc.freeze()
    _serve(sys.argv[1])
    os._exit(_run(*sys.orig_argv[1:]))
