"""Give out the machine's few places to compute, first to those on whom most others wait."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple


class _Place(NamedTuple):
    """A place that nobody holds."""

    least: int
    """Who has a lower priority must wait for it until this monotonic second."""
    until: float


class Slots:
    """A semaphore with priorities."""

    def __init__(self, count: int, pause: float = 0.0) -> None:
        """Open `count` places; one that is left is kept `pause` seconds from the least.

        What just ended makes others ready, each of a lower priority than its own; the pause lets
        them queue before one is served that they may go before.
        """
        self._count, self._pause = count, pause
        self._free = [_Place(0, 0.0)] * count
        self._waiting: list[tuple[int, int]] = []
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def place(self, priority: int, position: int = 0, alone: bool = False) -> Iterator[None]:
        """Hold a place during a block, or all of them; of those who wait, the highest is next.

        Args:
            priority: The higher, the sooner.
            position: Among equals, the lower, the sooner.
            alone: Hold every place, so that nobody else computes meanwhile.
        """
        wanted, turn = self._count if alone else 1, (priority, -position)
        with self._changed:
            self._waiting.append(turn)
            self._changed.wait_for(
                lambda: len(self._open(priority)) >= wanted and turn >= max(self._waiting)
            )
            self._waiting.remove(turn)
            for place in self._open(priority)[:wanted]:
                self._free.remove(place)
        try:
            yield
        finally:
            self._leave(wanted, priority)

    def _open(self, priority: int) -> list[_Place]:
        now = time.monotonic()
        return [place for place in self._free if priority >= place.least or now >= place.until]

    def _leave(self, places: int, priority: int) -> None:
        left = _Place(priority - 1, time.monotonic() + self._pause)
        with self._changed:
            self._free += [left] * places
            self._changed.notify_all()
        end = threading.Timer(self._pause, self._wake)
        end.daemon = True
        end.start()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
