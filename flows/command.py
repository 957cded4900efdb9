"""A flow as a command: however it ends, no process of it is left, and the last line says why.

The flow runs in a child. What stands here imports next to nothing, so it is there from the first
moment, and has the last word.
"""

from __future__ import annotations

import importlib
import signal
import sys
from typing import TYPE_CHECKING, Any

from tasks import process

if TYPE_CHECKING:
    from prefect.client.schemas import State

_ASKED_FOR = {128 + signal.SIGINT: "interrupted", 128 + signal.SIGTERM: "terminated"}


def launch(module: str) -> int:
    """Run `main()` of a module in a child that leaves nothing behind; return its exit status."""
    status = process.run_attached([sys.executable, "-m", __name__, module])
    if end := _ASKED_FOR.get(status) or process.death(status):
        sys.stderr.write(f"error: {end}; nothing made is lost, run again to go on\n")
    return status


def ended(state: State[Any]) -> int:
    """Say in one line why a flow failed, if it did; return the process's exit status."""
    if state.is_completed():
        return 0
    from rich.console import Console

    complain = Console(stderr=True, soft_wrap=True, highlight=False).print
    complain(f"error: {state.message}", markup=False)
    return 1


def _work(module: str) -> int:
    """Be the child."""
    # Nothing is begun while modules load: a signal may end that there and then.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    main = importlib.import_module(module).main
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        return int(main())
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(_work(sys.argv[1]))
