"""The page and its one question, as an application for any ASGI server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, Request
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.types import Receive, Scope, Send

from lcm_lora.demo.names import without_folders
from lcm_lora.demo.offer import STEPS, Offer
from lcm_lora.demo.turns import MOST_WAITING, Turn, Turns
from lcm_lora.demo.wish import (
    LARGEST_GUIDANCE,
    LARGEST_SEED,
    LARGEST_WEIGHT,
    LONGEST_PROMPT,
    read_wish,
)
from lcm_lora.errors import UserError
from lcm_lora.params.generate import ADAPTER, Generate
from lcm_lora.report.style import TINY
from lcm_lora.showing.asked import Asked
from lcm_lora.showing.order import Order

_LONGEST_REQUEST = 100_000


def app_of(
    title: str,
    params: Generate,
    offer: Offer,
    turns: Turns,
    size: int,
    is_quick: bool,
    hosts: Sequence[str],
    shows_folders: bool = True,
) -> FastAPI:
    """Return the application.

    Args:
        title: Of the page.
        params: How each painter paints.
        offer: Who can paint.
        turns: Who does.
        size: Pixels of a picture's side.
        is_quick: Whether pictures take so little that the page may paint unasked.
        hosts: Names by which the page may be reached. Others' pages could otherwise reach it by a
            name that they let lead here.
        shows_folders: Whether those who ask may see where files are.
    """
    app = FastAPI(openapi_url=None)
    says: Callable[[str], str] = str if shows_folders else without_folders
    page = _page(title, offer, size, is_quick, says)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)

    @app.get("/")
    def _() -> HTMLResponse:
        return HTMLResponse(page)

    @app.post("/paint")
    async def paint(request: Request) -> Response:
        try:
            raw = await _json(request)
            order, asked = read_wish(raw, params, offer.subjects, offer.wearable)
        except UserError as error:
            return JSONResponse({"says": says(str(error))}, 422)
        if turns.count >= MOST_WAITING:
            return JSONResponse({"says": "too many wait already; try again later"}, 503)
        return _Answer(order, asked, turns, says)

    return app


class _Answer(StreamingResponse):
    """What happens, a line of JSON each; when nobody listens any more, the turn is over."""

    def __init__(
        self, order: Order, asked: tuple[Asked, ...], turns: Turns, says: Callable[[str], str]
    ) -> None:
        """Take a turn at once: whoever asks next counts it."""
        told: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def say(event: dict[str, Any] | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the server has ended
                loop.call_soon_threadsafe(told.put_nowait, event)

        super().__init__(_lines(told, says), media_type="application/x-ndjson")
        self._turn, self._turns = Turn(order, asked, say), turns
        turns.take(self._turn)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; the turn ends even where the listener left before the first line."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._turns.give_up(self._turn)


async def _json(request: Request) -> Any:
    """Return what a request holds.

    Raises:
        UserError: It is no JSON, or far too long.
    """
    if request.headers.get("content-type") != "application/json":
        # Of this kind, browsers let only this page ask.
        raise UserError("request: not of type application/json")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_REQUEST:
            raise UserError("request: too long")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise UserError("request: not JSON") from None


async def _lines(
    told: asyncio.Queue[dict[str, Any] | None], says: Callable[[str], str]
) -> AsyncIterator[str]:
    while (event := await told.get()) is not None:
        if "says" in event:
            event["says"] = says(event["says"])
        yield json.dumps(event) + "\n"


def _page(title: str, offer: Offer, size: int, is_quick: bool, says: Callable[[str], str]) -> str:
    environment = Environment(
        loader=PackageLoader("lcm_lora.demo"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        title=says(title),
        painters=[asdict(painter) | {"about": says(painter.about)} for painter in offer.painters],
        styles=[{"name": one.name, "about": says(one.about)} for one in offer.styles if one.file],
        missing=[(one.title, says(one.about)) for one in offer.painters if not one.is_there]
        + [(f"Style {one.name}", says(one.about)) for one in offer.styles if not one.file],
        examples=offer.examples,
        steps=STEPS,
        is_tiny=size <= TINY,
        is_quick=is_quick,
        longest_prompt=LONGEST_PROMPT,
        largest_seed=LARGEST_SEED,
        largest_weight=LARGEST_WEIGHT,
        largest_guidance=LARGEST_GUIDANCE,
        guidance=next(f"{one.guidance:g}" for one in offer.painters if one.name == ADAPTER),
    )
