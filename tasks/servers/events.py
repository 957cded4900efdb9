"""Say to Prefect's server what has happened, so that its automations can answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from prefect.client.orchestration import SyncPrefectClient
from prefect.context import FlowRunContext
from prefect.events import Event, Resource, emit_event
from prefect.settings import PREFECT_API_URL

Happening = Literal[
    "dataset.published",
    "adapter.registered",
    "adapter.proposed",
    "adapter.promoted",
    "adapter.refused",
    "adapter.kept",
    "champion.rolled-back",
    "champion.moved-by-hand",
    "data.drifted",
]
"""What automations may be built on; `adapter.kept` if the gate keeps the champion."""

PROJECT = "lcm-lora.project"


def emit(happening: Happening, resource: str, payload: Mapping[str, Any]) -> None:
    """Emit an event, if a server listens; what is done is not undone because nobody hears of it.

    Args:
        happening: Its name.
        resource: What it happened to: `PROJECT`, or `model` of a registered model's name.
        payload: JSON; automations pass it on as parameters.
    """
    # Elsewhere Prefect would start a server of its own, only to tell it.
    if PREFECT_API_URL.value() or FlowRunContext.get():
        emit_event(happening, resource={"prefect.resource.id": resource}, payload=dict(payload))


def post(
    client: SyncPrefectClient, happening: Happening, resource: str, payload: Mapping[str, Any]
) -> None:
    """Give an event to a server at once, and fail where it does not take it."""
    about = {"prefect.resource.id": resource}
    event = Event(event=happening, resource=Resource(about), payload=dict(payload))
    client.request("POST", "/events", json=[event.model_dump(mode="json")])


def model(name: str) -> str:
    """Return the resource of a registered model."""
    return f"lcm-lora.model.{name}"
