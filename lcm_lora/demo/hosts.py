"""By which names a page may be asked for, so that no other name that leads here reaches it."""

from __future__ import annotations

import contextlib
import ipaddress

_HERE = ("127.0.0.1", "localhost")
_ANY = ("*",)


def names_of(host: str) -> tuple[str, ...]:
    """Return the names that stand for an address to listen at, as they stand in a request."""
    if host in _HERE:
        return _HERE
    if is_everywhere(host):
        return _ANY
    return (as_in_url(host),)


def is_everywhere(host: str) -> bool:
    """Tell whether it stands for all addresses of this machine, which have names of their own."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_unspecified
    return False


def as_in_url(host: str) -> str:
    """Return an address as URLs hold it."""
    return f"[{host}]" if ":" in host else host
