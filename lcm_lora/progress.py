"""Show how far long work is: a bar on a terminal, a line every few seconds in a log."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

Advance = Callable[..., None]
"""advance(count=1, note=""): `count` more units are done; `note` says something about the last."""

_SECONDS_BETWEEN_LINES = 5.0


@contextlib.contextmanager
def progress(what: str, total: int, unit: str, done: int = 0) -> Iterator[Advance]:
    """Yield a function that advances the display of `what`, from `done` to `total` units."""
    with (
        _bar(what, total, unit, done)
        if sys.stderr.isatty()
        else _lines(what, total, unit, done) as advance
    ):
        yield advance


@contextlib.contextmanager
def _bar(what: str, total: int, unit: str, done: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total, completed=done, rate="", note="")

        def advance(count: int = 1, note: str = "") -> None:
            speed = bar.tasks[task].speed
            rate = f"{speed:.1f} {unit}/s" if speed else ""
            bar.update(task, advance=count, rate=rate, note=note)

        yield advance


@contextlib.contextmanager
def _lines(what: str, total: int, unit: str, done: int) -> Iterator[Advance]:
    started = last = time.monotonic()
    first = done

    def advance(count: int = 1, note: str = "") -> None:
        nonlocal done, last
        done += count
        now = time.monotonic()
        if now - last < _SECONDS_BETWEEN_LINES and done < total:
            return
        last = now
        rate = (done - first) / max(now - started, 1e-9)
        text = f"{what}: {done}/{total} {unit}, {rate:.1f} {unit}/s"
        if done == total:
            text += f", took {now - started:.0f} s"
        elif rate:
            text += f", {(total - done) / rate:.0f} s left"
        sys.stderr.write(f"{text}, {note}\n" if note else f"{text}\n")
        sys.stderr.flush()

    yield advance
