"""Give out the machine's few places to compute, first to those on whom most others wait."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class Slots:
    """A semaphore with priorities."""

    def __init__(self, count: int, pause: float = 0.0) -> None:
        """Open `count` places, each given away no sooner than `pause` seconds after it is left.

        What just ended makes others ready; the pause lets them queue before a lesser one is served.
        """
        self._count = self._free = count
        self._pause = pause
        self._waiting: list[int] = []
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def place(self, priority: int, alone: bool = False) -> Iterator[None]:
        """Hold a place during a block, or all of them; of those who wait, the highest is next.

        Args:
            priority: The higher, the sooner.
            alone: Hold every place, so that nobody else computes meanwhile.
        """
        wanted = self._count if alone else 1
        with self._changed:
            self._waiting.append(priority)
            self._changed.wait_for(lambda: self._free >= wanted and priority >= max(self._waiting))
            self._waiting.remove(priority)
            self._free -= wanted
        try:
            yield
        finally:
            leave = threading.Timer(self._pause, self._leave, [wanted])
            leave.daemon = True
            leave.start()

    def _leave(self, places: int) -> None:
        with self._changed:
            self._free += places
            self._changed.notify_all()
