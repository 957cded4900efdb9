"""One painter at a time: requests wait for their turn, and may be given up at any moment."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from lcm_lora.errors import UserError, is_out_of_memory, reason
from lcm_lora.showing.asked import Asked
from lcm_lora.showing.easel import Easel
from lcm_lora.showing.order import Order

MOST_WAITING = 16

_OUT_OF_MEMORY = "the device has too little memory for this"

Tell = Callable[[dict[str, Any] | None], None]
"""Is told each event; None is the end. Called in the painting thread."""


@dataclass(eq=False)
class Turn:
    """A request on its way."""

    order: Order
    asked: Sequence[Asked]
    tell: Tell
    is_given_up: bool = field(default=False)


class Turns:
    """A thread that paints the pictures of one request after another."""

    def __init__(self, easel: Easel) -> None:
        """Start with nobody waiting."""
        self._easel = easel
        self._pool = ThreadPoolExecutor(1, "painter")
        self._open: list[Turn] = []

    @property
    def count(self) -> int:
        """Requests that are painted or wait."""
        return sum(not turn.is_given_up for turn in list(self._open))

    def take(self, turn: Turn) -> None:
        """Let a request wait for its turn."""
        if self.count:
            turn.tell({"event": "waiting", "before": self.count})
        self._open.append(turn)
        self._pool.submit(self._serve, turn)

    def give_up(self, turn: Turn) -> None:
        """Stop painting for a request, or never begin; nothing happens where it is over."""
        turn.is_given_up = True

    def close(self) -> None:
        """End all requests; a signal's handler may do it."""
        for turn in list(self._open):
            self.give_up(turn)
            turn.tell(None)

    def join(self) -> None:
        """Wait for the thread to end."""
        self._pool.shutdown()

    def _serve(self, turn: Turn) -> None:
        try:
            for number, asked in enumerate(turn.asked):
                event = None if turn.is_given_up else self._painted(turn, number, asked)
                if event is None or turn.is_given_up:
                    return
                turn.tell(event)
            turn.tell({"event": "done"})
        except Exception as error:  # the page says it, and the next request is served
            turn.tell({"event": "error", "says": _words(error)})
        finally:
            self._open.remove(turn)
            turn.tell(None)

    def _painted(self, turn: Turn, number: int, asked: Asked) -> dict[str, Any]:
        started = time.perf_counter()
        pixels = self._easel.paint(asked, turn.order, lambda: turn.is_given_up)
        seconds = time.perf_counter() - started
        with io.BytesIO() as file:
            Image.fromarray(pixels).save(file, "PNG")
            png = base64.b64encode(file.getvalue()).decode()
        return {"event": "picture", "number": number, "ms": round(1000 * seconds, 1), "png": png}


def _words(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    return _OUT_OF_MEMORY if is_out_of_memory(error) else reason(error)
