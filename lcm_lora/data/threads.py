"""Work on a stream with all cores, without changing its order or holding much of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")

_AHEAD = 64
"""Memory is bounded by the items under way."""


def in_order(
    pool: ThreadPoolExecutor,
    function: Callable[[_In], _Out],
    items: Iterable[_In],
    ahead: int = _AHEAD,
) -> Iterator[_Out]:
    """Yield `function` of every item, in the order of the items; `ahead` are under way at a time.

    Threads suffice where the work is Pillow's: it decodes, resizes and encodes without the lock.
    """
    under_way: deque[Future[_Out]] = deque()
    try:
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) == ahead:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        for future in under_way:
            future.cancel()
