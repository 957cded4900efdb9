"""Do something again and again while a block runs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def meanwhile(act: Callable[[], None], every: float) -> Iterator[None]:
    """Act every so many seconds during the block, in a thread; the block's end waits for the last.

    Args:
        act: What it raises ends the thread, and not the block.
        every: Seconds from the end of one to the start of the next, and before the first.
    """
    done = threading.Event()

    def repeat() -> None:
        while not done.wait(every):
            act()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
