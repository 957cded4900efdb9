"""How the adapter enters the registry."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from lcm_lora.params.section import Section
from lcm_lora.params.values import Text

_MODEL_NAME = re.compile(r"\w[\w .-]*")


def _model_name(name: str) -> str:
    if not _MODEL_NAME.fullmatch(name):
        raise ValueError(
            "is no name for a registered model; take letters, digits, spaces and . _ - and begin "
            "with a letter or digit"
        )
    return name


_Bound = Annotated[float, Field(ge=-1e9, le=1e9)]
_Margin = Annotated[float, Field(ge=0, le=1e9)]


class Gate(Section):
    """What an adapter must reach at one step count to become champion; all rules must hold."""

    steps: int = Field(ge=1, le=10_000)
    """Step count of the adapter's cell that is judged."""
    guidance: float = Field(1.0, ge=0, le=100)
    limits: dict[Text, _Bound] = Field(default_factory=dict)
    """Metrics, such as `fd_shapes:real`, and how good each must be, whoever is champion."""
    target: dict[Text, _Margin] = Field(default_factory=dict)
    """Metrics that must be better than the champion's by more than a margin."""
    guards: dict[Text, _Margin] = Field(default_factory=dict)
    """Metrics that must not be worse than the champion's by a margin, as far as can be told."""


class Approval(Section):
    """Who has the last word when the gate lets an adapter pass."""

    by: Literal["gate", "person"] = "gate"
    """The gate alone; or a person, who is shown the scores and asked."""
    days: float = Field(3.0, gt=0, le=60)
    """How long a person is waited for; after that the champion stays."""


class Registry(Section):
    """How the adapter enters the registry."""

    name: Annotated[str, Field(max_length=200), AfterValidator(_model_name)]
    """Of the registered model; MLflow, its addresses and its queries take no `/`, `:` or quote."""
    experiment: Annotated[Text, Field(max_length=250)]
    """Of the runs; MLflow's databases keep 256 characters."""
    gate: Annotated[tuple[Gate, ...], Field(min_length=1, max_length=50)]
    """The rules, by step count."""
    approval: Approval = Field(default_factory=Approval)
    smoke: int = Field(ge=0, le=16)
    """Pictures that a version must paint again, through the registry, before it is champion; with
    0 it is only fetched and hashed. DVC reads it too, so it has no default."""
