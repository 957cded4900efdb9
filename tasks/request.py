"""What a run is asked for: the typed parameter of the flow, which a Prefect server checks."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue


class Request(BaseModel):
    """Which state of the project to bring up to date, where, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workspace: Literal["shared", "isolated"] = "shared"
    """In the project's own folder; or each stage in a checkout of its own, on its pool's worker."""
    revision: str | None = Field(None, min_length=1, max_length=250)
    """Of the project, as git names it; null: its HEAD. A shared workspace has only what it is."""
    overrides: dict[str, JsonValue] = Field(default_factory=dict)
    """Parameters by dotted names, such as `distill.steps`; in an isolated workspace only."""
    why: str = Field("by hand", min_length=1, max_length=500)
    """For the record: who or what asks."""
