"""A flow as a command: however it ends, no process of it is left, and the last line says why.

The flow runs in a child. What stands here imports next to nothing, so it is there from the first
moment, and has the last word.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tasks.running import process

if TYPE_CHECKING:
    from prefect.client.schemas import State

    from tasks.isolated.request import Request

_ASKED_FOR = {128 + signal.SIGINT: "interrupted", 128 + signal.SIGTERM: "terminated"}


def launch(module: str, about: str | None = None, more: Sequence[str] = ()) -> int:
    """Run `main()` of a module in a child that leaves nothing behind; return its exit status.

    Args:
        module: Its full name.
        about: What it does, where its arguments are those of a request; None: the module looks at
            them itself.
        more: Arguments beside those of the command line.
    """
    if about is not None:
        _parser(module, about).parse_args()
    status = process.run_attached([sys.executable, "-m", __name__, module, *sys.argv[1:], *more])
    if end := _ASKED_FOR.get(status) or process.death(status):
        sys.stderr.write(f"error: {end}; nothing made is lost, run again to go on\n")
    return status


def request(module: str, arguments: Sequence[str] | None) -> Request:
    """Return what arguments ask for; None: those of the command line.

    Raises:
        UserError: They ask for what cannot be.
    """
    from lcm_lora.errors import UserError, reason
    from tasks.isolated.request import Request, value_of  # seconds, which --help does not wait for

    asked = _parser(module, "").parse_args(arguments)
    pairs = [setting.partition("=") for setting in asked.set]
    try:
        wanted = Request(
            workspace="isolated" if asked.isolated else "shared",
            revision=asked.revision,
            overrides={name: value_of(name, text) for name, _, text in pairs},
            why=asked.why,
        )
    except ValueError as error:
        raise UserError(f"arguments: {reason(error)}; see --help") from None
    wanted.check()
    return wanted


def _parser(module: str, about: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    parser.add_argument(
        "--isolated",
        action="store_true",
        help="run each stage in a checkout of its own, on a worker of its pool",
    )
    parser.add_argument("--revision", help="of the project, as git names it; isolated only")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another value for a parameter, such as distill.steps=400; isolated only",
    )
    parser.add_argument("--why", default="by hand", help="for the record")
    return parser


def asked(
    flow: Callable[..., State[Any]], module: str, arguments: Sequence[str] | None = None
) -> int:
    """Run a flow of a request as arguments ask; return the process's exit status.

    Args:
        flow: Takes a request.
        module: Its full name.
        arguments: None: those of the command line.
    """
    from lcm_lora.errors import UserError

    try:
        wanted = request(module, arguments)
    except UserError as error:
        return complain(str(error))
    return ended(flow(wanted, return_state=True))


def ended(state: State[Any]) -> int:
    """Say in one line why a flow failed, if it did; return the process's exit status."""
    return 0 if state.is_completed() else complain(str(state.message))


def complain(message: str) -> int:
    """Say in one line what is wrong; return the exit status of that."""
    from rich.console import Console

    say = Console(stderr=True, soft_wrap=True, highlight=False).print
    say(f"error: {message}", markup=False)
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
    sys.argv = sys.argv[1:]  # as the module would have it
    sys.exit(_work(sys.argv[0]))
