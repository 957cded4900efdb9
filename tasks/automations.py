"""What a Prefect server does by itself when something happens, or fails to happen."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events import EventTrigger, Posture
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore

LOST_AFTER = timedelta(seconds=90)
"""Without a sign of life; job templates ask for one every 30 seconds."""

Change = Literal["new", "changed", "unchanged"]

_PARTS = ("description", "trigger", "actions")


def lost_runs() -> AutomationCore:
    """Return what finds runs whose machine is gone, so that nobody can say how they ended."""
    return AutomationCore(
        name="lcm-lora: lost runs are crashed",
        description=f"Nothing was heard of a run for {LOST_AFTER.seconds} s: its machine is gone.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            after={"prefect.flow-run.heartbeat"},
            # Whatever else happens to a run is a sign of life too, or its end.
            expect={"prefect.flow-run.*"},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            for_each={"prefect.resource.id"},
            within=LOST_AFTER,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"no sign of life for {LOST_AFTER.seconds} s: its machine is gone",
            )
        ],
    )


def settle(client: SyncPrefectClient, asked: AutomationCore) -> Change:
    """Make an automation as it is wanted, by its name.

    One that somebody disabled stays disabled, and of several with one name one is left.
    """
    found = client.read_automations_by_name(asked.name)
    if not found:
        client.create_automation(asked)
        return "new"
    for double in found[1:]:
        client.delete_automation(double.id)
    if all(getattr(found[0], part) == getattr(asked, part) for part in _PARTS):
        return "changed" if found[1:] else "unchanged"
    client.update_automation(found[0].id, asked.model_copy(update={"enabled": found[0].enabled}))
    return "changed"
