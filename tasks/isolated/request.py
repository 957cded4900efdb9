"""What runs and workers are asked for: typed parameters of flows, which Prefect's server checks."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter

from lcm_lora.errors import UserError

_JSON = TypeAdapter[JsonValue](JsonValue)


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
    share: str | None = None
    """As 2/4: make only the second of four parts, into the store that machines share."""

    @property
    def title(self) -> str:
        """What is made, for people."""
        return self.stage if self.share is None else f"{self.stage} {self.share}"


def value_of(name: str, text: str) -> JsonValue:
    """Return the value that a text is in YAML, as params.yaml would have it.

    Raises:
        UserError: It is none.
    """
    from ruamel.yaml import YAML, YAMLError

    try:
        return _JSON.validate_python(YAML(typ="safe").load(text))
    except (YAMLError, ValueError):
        raise UserError(f"{name}: {text} is no value of a parameter; put it in quotes") from None


def overridden(text: str, overrides: dict[str, Any]) -> str:
    """Return the text of params.yaml with other values for some parameters.

    Raises:
        UserError: It has no such parameter.
    """
    for name, value in overrides.items():
        start, end = _place(text, name)
        old = text[start:end]
        space = " " if not old else ""
        new = space + json.dumps(value, ensure_ascii=False) + old[len(old.rstrip()) :]
        text = text[:start] + new + text[end:]
    return text


def _place(text: str, name: str) -> tuple[int, int]:
    """Return where in a text of YAML the value of a dotted name begins and ends."""
    from ruamel.yaml import YAML
    from ruamel.yaml.nodes import MappingNode

    key: Any
    node: Any = YAML().compose(text)
    for part in name.split("."):
        pairs = node.value if isinstance(node, MappingNode) else []
        key, node = next((pair for pair in pairs if pair[0].value == part), (None, None))
        if key is None:
            raise UserError(f"override {name}: params.yaml has no such parameter; mend its name")
    if node.start_mark.index < node.end_mark.index:
        return node.start_mark.index, node.end_mark.index
    after = text.index(":", key.end_mark.index) + 1  # nothing is there, so it stands nowhere
    return after, after
