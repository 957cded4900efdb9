"""What runs and workers are asked for: typed parameters of flows, which Prefect's server checks."""

from __future__ import annotations

import io
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from lcm_lora.errors import UserError


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

    def check(self) -> None:
        """Check that the workspace can have what is asked.

        Raises:
            UserError: A shared one is asked for what it is not.
        """
        if self.workspace == "shared" and (self.revision or self.overrides):
            raise UserError(
                "request: a shared workspace runs the folder as it is; take workspace isolated "
                "(--isolated) for a revision or overrides, or change the folder"
            )


class Order(BaseModel):
    """What a worker is told: which stage of which commit, and of what exactly it is made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    key: str
    """The run-cache's key of what has to come out, over everything that goes in."""
    commit: str
    params: str
    """The whole text of params.yaml."""
    inputs: dict[str, list[dict[str, JsonValue]]]
    """What other stages made that this one reads, by stage, as dvc.lock names it: path and hash."""


def overridden(text: str, overrides: dict[str, Any]) -> str:
    """Return the text of params.yaml with other values for some parameters.

    Raises:
        UserError: It has no such parameter.
    """
    if not overrides:
        return text
    from ruamel.yaml import YAML  # comments and all else stay as they are

    params = YAML().load(text)
    for name, value in overrides.items():
        section, (*parents, last) = params, name.split(".")
        for part in parents:
            section = section.get(part) if isinstance(section, dict) else None
        if not isinstance(section, dict) or last not in section:
            raise UserError(f"override {name}: no such parameter in params.yaml; mend its name")
        section[last] = value
    written = io.StringIO()
    YAML().dump(params, written)
    return written.getvalue()
