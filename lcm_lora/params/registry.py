"""How the adapter enters the registry."""

from __future__ import annotations

import re
from typing import Annotated

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


class Gate(Section):
    """When an adapter may become champion."""

    steps: int = Field(ge=1, le=10_000)
    """Step count of the adapter at which it is judged."""
    metric: Text
    """Metric of the table, such as `fd_shapes:real`; lower is better for distances."""
    limit: float = Field(ge=-1e9, le=1e9)
    """Absolute gate: the metric must be at least this good."""


class Registry(Section):
    """How the adapter enters the registry."""

    name: Annotated[str, Field(max_length=200), AfterValidator(_model_name)]
    """Of the registered model; MLflow, its addresses and its queries take no `/`, `:` or quote."""
    experiment: Annotated[Text, Field(max_length=250)]
    """Of the runs; MLflow's databases keep 256 characters."""
    gate: Gate
