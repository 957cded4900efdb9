"""Serve the page from this machine until Ctrl-C."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
import webbrowser
from collections.abc import Sequence
from types import FrameType

import uvicorn

from lcm_lora import layout
from lcm_lora.demo.app import app_of
from lcm_lora.demo.hosts import as_in_url, is_everywhere, names_of
from lcm_lora.demo.offer import offer_of
from lcm_lora.demo.turns import Turns
from lcm_lora.errors import UserError
from lcm_lora.hashes import Hashes
from lcm_lora.params.base import Base
from lcm_lora.params.generate import Generate
from lcm_lora.params.hardware import Hardware
from lcm_lora.params.prepare import Prepare
from lcm_lora.params.reading import load_section
from lcm_lora.params.transfer import Transfer
from lcm_lora.showing.easel import Easel
from lcm_lora.showing.order import Weights
from lcm_lora.stages.generate import PLACES

_SECONDS_TO_END = 60


def serve(host: str, port: int, open_page: bool, styles: Sequence[str] = ()) -> None:
    """Serve the project in the working folder.

    Args:
        host: Address to listen at.
        port: Port to listen at; 0 is any that is free.
        open_page: Whether to open the page in a browser.
        styles: That it offers besides those of the transfer evaluation, as NAME=FILE.

    Raises:
        UserError: The port is taken, nobody can paint, a style cannot be worn, or a model cannot be
            loaded.
    """
    base = load_section(layout.PARAMS, Base)
    params = load_section(layout.PARAMS, Generate)
    transfer = load_section(layout.PARAMS, Transfer)
    hardware = load_section(layout.PARAMS, Hardware)
    size = load_section(layout.PARAMS, Prepare).resolution
    with _listening(host, port) as opened:
        with Hashes(layout.HASHES) as hashes:
            offer = offer_of(params, transfer, styles, PLACES, layout.EVALUATION, hashes)
        easel = Easel(params, hardware, size, offer.subjects)
        _say(f"loading {base.model}")
        easel.load(Weights(styles=tuple(offer.wearable.values())))
        turns = Turns(easel)
        shows_folders = not is_everywhere(host)
        how = (size, easel.is_small, names_of(host), shows_folders)
        app = app_of(base.model, params, offer, turns, *how)
        url = f"http://{as_in_url(host)}:{opened.getsockname()[1]}"
        opened.listen()  # a browser that is quicker than the server waits
        _say(f"open {url}; Ctrl-C ends")
        if open_page:
            webbrowser.open(url)
        _run(app, turns, opened)


class _Server(uvicorn.Server):
    """A server that ends what is painted before it waits for pages to hang up."""

    def __init__(self, config: uvicorn.Config, turns: Turns) -> None:
        super().__init__(config)
        self._turns = turns

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note that Ctrl-C was pressed."""
        self._turns.close()
        super().handle_exit(sig, frame)


def _run(app: object, turns: Turns, opened: socket.socket) -> None:
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]  # uvicorn's own words for what every ASGI application is
        log_level="error",
        lifespan="off",
        timeout_graceful_shutdown=_SECONDS_TO_END,
    )
    try:
        with contextlib.suppress(KeyboardInterrupt):
            _Server(config, turns).run(sockets=[opened])
    finally:
        turns.close()
        turns.join()


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that holds the port.

    Raises:
        UserError: It is taken, or the address is none of this machine.
    """
    try:
        (family, *_, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        opened = socket.socket(family)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"--port {port}: taken; name another, or 0 for any") from None
        raise UserError(f"--host {host}, --port {port}: {error.strerror or error}") from None
    return opened


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
