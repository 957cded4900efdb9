"""Wait until parts of the stack work, or say in one line which does not, and its last words."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection
from pathlib import Path

from infra.local import parts
from infra.local.parts import Part
from lcm_lora.errors import UserError

_PATIENCE = 240.0
"""Seconds a part may take, on a machine that has much else to do."""

_SECONDS_BETWEEN_LOOKS = 0.2


def wait_for(folder: Path, awaited: Collection[Part], say: Callable[[str], None]) -> None:
    """Wait until all parts work.

    Args:
        folder: Of the stack.
        awaited: Parts that were started.
        say: Gets a line for each, once it works.

    Raises:
        UserError: One has ended, or takes too long.
    """
    start, pending = time.monotonic(), list(awaited)
    while pending:
        for part in list(pending):
            process = parts.process_of(folder, part.name)
            if process is None:
                raise UserError(f"{part.name}: ended by itself; {last_words(folder, part.name)}")
            if part.answers(process.create_time()):
                pending.remove(part)
                say(f"{part.name} answers after {time.monotonic() - start:.0f} s")
        if pending and time.monotonic() - start > _PATIENCE:
            name = pending[0].name
            raise UserError(f"{name}: no answer in {_PATIENCE:.0f} s; {last_words(folder, name)}")
        time.sleep(_SECONDS_BETWEEN_LOOKS if pending else 0)


def last_words(folder: Path, name: str) -> str:
    """Return where a part's log is, and the last line of it."""
    log = parts.log_of(folder, name)
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    spoken = [line.strip() for line in lines if line.strip()]
    return f"{log} ends: {spoken[-1][:200]}" if spoken else f"{log} is empty"


def answers(url: str) -> bool:
    """Tell whether a GET of a URL succeeds."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False
