"""A door for the store's back rooms, which ask nobody for a key: only the store's own user enters.

They are made for a network of their own. On one machine, every user of it could reach their ports,
and so what others keep; with this, it is as with the files on disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

_Application = Callable[[Mapping[str, Any], Callable[..., Any]], Iterable[bytes]]

_LOCAL, _REMOTE, _USER = 1, 2, 7
"""Columns of the system's table of connections."""


def filter_factory(general: Mapping[str, str], **local: str) -> Callable[[_Application], Any]:
    """Return the filter, as Paste Deployment asks for one."""

    def guarded(application: _Application) -> _Application:
        def answer(request: Mapping[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            ports = int(request["REMOTE_PORT"]), int(request["SERVER_PORT"])
            if _user_of(*ports) == os.geteuid():
                return application(request, start)
            start("403 Forbidden", [("Content-Type", "text/plain"), ("Content-Length", "0")])
            return []

        return answer

    return guarded


def _user_of(theirs: int, ours: int) -> int | None:
    """Return the user who opened a connection of this machine, by the ports of its two ends."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        columns = line.split()
        if (_port(columns[_LOCAL]), _port(columns[_REMOTE])) == (theirs, ours):
            return int(columns[_USER])
    return None


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)
