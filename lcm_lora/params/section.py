"""What every section of params.yaml has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section of params.yaml: frozen, no unknown keys, and every number finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
