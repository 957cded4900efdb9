"""A flow as a command: however it ends, no process of it is left, and the last line says why.

The flow runs in a child. What stands here imports next to nothing, so it is there from the first
moment, and has the last word.
"""

from __future__ import annotations

import importlib
import signal
import sys

from tasks import process

_ASKED_FOR = {128 + signal.SIGINT: "interrupted", 128 + signal.SIGTERM: "terminated"}


def launch(module: str) -> int:
    """Run `main()` of a module in a child that leaves nothing behind; return its exit status."""
    status = process.run_attached([sys.executable, "-m", __name__, module])
    if end := _ASKED_FOR.get(status) or process.death(status):
        sys.stderr.write(f"error: {end}; nothing made is lost, run again to go on\n")
    return status


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
