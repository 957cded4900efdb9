"""What computing costs here, so that each version can say what it took to make."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lcm_lora.params.section import Section
from lcm_lora.params.values import Text

_Price = Annotated[float, Field(ge=0, le=1e6)]


class Costs(Section):
    """Prices; all of them zero means that only hours and energy are told."""

    gpu_hour: _Price = 0.0
    """Of one GPU."""
    cpu_hour: _Price = 0.0
    """Of one busy core."""
    kilowatt_hour: _Price = 0.0
    """Of what the GPUs draw, where that can be read; zero where the prices of hours hold it."""
    currency: Annotated[Text, Field(max_length=10)] = "EUR"
