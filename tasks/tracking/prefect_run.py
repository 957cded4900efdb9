"""The Prefect run in which something is done, as records and MLflow's runs name it."""

from __future__ import annotations

from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL

from lcm_lora.records import Record


class PrefectRun(Record):
    """A run of a flow."""

    id: str
    name: str | None
    url: str | None
    """Its page; null if its server ended with it."""

    @classmethod
    def current(cls) -> PrefectRun | None:
        """Return the one that this code runs in; None outside flows."""
        if not (own := flow_run.id):
            return None
        return cls(
            id=own, name=flow_run.name, url=flow_run.ui_url if PREFECT_API_URL.value() else None
        )

    @property
    def tags(self) -> dict[str, str]:
        """What a run or version in MLflow says of it."""
        return {"prefect_run": self.id} | ({"prefect_url": self.url} if self.url else {})
