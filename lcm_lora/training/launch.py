"""Start the processes of a training on this machine, and end them as one."""

from __future__ import annotations

import contextlib
import datetime
import logging
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.queues import SimpleQueue
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from lcm_lora.errors import UserError, is_out_of_memory
from lcm_lora.processes import die_with_parent
from lcm_lora.training.ranks import Ranks

_HERE = "127.0.0.1"
_FOREVER = datetime.timedelta(days=365)
"""A dead process is noticed by the launcher; who waits for a long write must not give up."""
_SECONDS_TO_BLAME = 10.0
"""The launcher looks ten times a second. Who fails for another's death waits to be ended by it."""

_Handler = Callable[..., Any] | int | signal.Handlers | None


def launch(count: int, work: Callable[..., None], *arguments: Any) -> None:
    """Run `work(ranks, *arguments)` in `count` new processes; if one ends badly, all end.

    Raises:
        UserError: One raised it, or was killed.
        OSError: One raised it.
        MemoryError: One had too little memory, or its device.
    """
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id="distill",
        rdzv_backend="c10d",
        rdzv_endpoint=f"{_HERE}:0",
        local_addr=_HERE,
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
        signals_to_handle=",".join(one.name for one in _heeded()),
    )
    errors = multiprocessing.get_context("spawn").SimpleQueue()
    _quiet()
    with _own_signals():
        try:
            elastic_launch(config, _rank)(os.getpid(), errors, work, arguments)
        except ChildFailedError as failed:
            raise _cause(failed, errors) from None


def _rank(
    parent: int, errors: SimpleQueue[Exception], work: Callable[..., None], arguments: Any
) -> None:
    """Be one of the processes."""
    die_with_parent(parent)
    ranks = Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    torch.set_num_threads(max(1, torch.get_num_threads() // ranks.count))  # if no one says how many
    try:
        work(ranks, *arguments)
    except (UserError, OSError) as error:
        errors.put(error)
        sys.exit(1)
    except Exception as error:
        if is_out_of_memory(error):
            errors.put(MemoryError(str(error)))
            sys.exit(1)
        told = traceback.format_exc()
        time.sleep(_SECONDS_TO_BLAME)
        sys.stderr.write(told)
        errors.put(RuntimeError(f"process {ranks.number} of {ranks.count}: {error}"))
        sys.exit(1)


@contextlib.contextmanager
def joined(ranks: Ranks, device: torch.device) -> Iterator[None]:
    """Let a process compute together with the others in the block."""
    if ranks.count == 1:
        yield
        return
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo", timeout=_FOREVER, device_id=device if on_gpu else None
    )
    yield
    dist.destroy_process_group()


def _cause(failed: ChildFailedError, errors: SimpleQueue[Exception]) -> Exception:
    if not errors.empty():
        return errors.get()
    number, failure = failed.get_first_failure()
    how = failure.signal_name() if failure.exitcode < 0 else f"exit code {failure.exitcode}"
    return UserError(
        f"distill: its process {number} was ended by {how}; run the same command again, and it "
        "goes on from the last checkpoint"
    )


def _quiet() -> None:
    """Keep the launcher from telling at length what is told in a line."""
    for name in ("torch.distributed.elastic", "torch.multiprocessing"):
        logger = logging.getLogger(name)
        logger.addHandler(logging.NullHandler())
        logger.propagate = False


def _heeded() -> list[signal.Signals]:
    """Return the signals that end a run: those that this process was not started to ignore."""
    ends = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    return [one for one in ends if signal.getsignal(one) is not signal.SIG_IGN]


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Undo the launcher's handlers of signals, and end as without them if one comes."""
    before: dict[signal.Signals, _Handler] = {name: signal.getsignal(name) for name in _heeded()}
    came = None
    try:
        yield
    except SignalException as error:
        came = error.sigval
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
    if came == signal.SIGINT:
        raise KeyboardInterrupt
    if came is not None:
        sys.exit(128 + came)
