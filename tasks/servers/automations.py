"""What a Prefect server does by itself when something happens, or fails to happen."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Literal
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events import EventTrigger, Posture
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound

from lcm_lora.errors import UserError
from tasks.servers.prefect_server import AWAY

LOST_AFTER = AWAY + timedelta(seconds=90)
"""Without a sign of life, unless others are wanted. Job templates ask for one every 30 seconds, and
none arrives while the server is away: were runs lost before, those that live would be, and their
stages sent again."""

Change = Literal["new", "changed", "unchanged"]

_OURS = {"prefect.resource.role": "tag", "prefect.resource.id": "prefect.tag.lcm-lora"}
"""On what an event is about: runs of these deployments, not of others on the same server."""
_RUN = (
    "{{ flow.name }}: {{ flow_run.name }} is {{ flow_run.state.name }}\n"
    "{{ flow_run.state.message }}\n{{ flow_run|ui_url }}"
)
_MODEL = (
    "{{ event.resource.id }}\n"
    "{% for name, value in event.payload.items() %}{{ name }}: {{ value }}\n{% endfor %}"
)
_TOLD: dict[str, tuple[tuple[str, ...], str]] = {
    "a run has failed": (("prefect.flow-run.Failed", "prefect.flow-run.Crashed"), _RUN),
    "the gate keeps the champion": (("adapter.kept",), _MODEL),
    "a version waits for approval": (("adapter.proposed",), _MODEL),
    "a new champion": (("adapter.promoted",), _MODEL),
    "a version was refused": (("adapter.refused",), _MODEL),
    "a champion of before is back": (("champion.rolled-back",), _MODEL),
    "the champion was moved by hand": (("champion.moved-by-hand",), _MODEL),
    "data have drifted": (("data.drifted",), _MODEL),
}
"""What a team is told of, if it wants to be: by which events, and in which words."""
_PARTS = ("description", "trigger", "actions")


def lost_runs(after: timedelta, begin_at_once: bool) -> AutomationCore:
    """Return what finds runs whose machine is gone, so that nobody can say how they ended.

    Args:
        after: For so long nothing was heard of it.
        begin_at_once: Also find runs whose worker died before they began. Not where one may have
            to wait for a node, once its worker has handed it to a cluster.
    """
    begins = {"prefect.flow-run.Pending", "prefect.flow-run.Submitting"}
    return AutomationCore(
        name="lcm-lora: lost runs are crashed",
        description=f"Nothing was heard of a run for {after.seconds} s: its machine is gone.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            after={"prefect.flow-run.heartbeat"} | (begins if begin_at_once else set()),
            # Whatever else happens to a run is a sign of life too, or its end.
            expect={"prefect.flow-run.*"},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related=_OURS,
            for_each={"prefect.resource.id"},
            within=after,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"no sign of life for {after.seconds} s: its machine is gone",
            )
        ],
    )


def notifications(block: UUID) -> Iterator[AutomationCore]:
    """Yield what tells a team, through a notification block, of what it may have to act on."""
    for what, (events, body) in _TOLD.items():
        trigger = EventTrigger(expect=set(events), match={"prefect.resource.id": "lcm-lora.*"})
        if body == _RUN:
            runs = {"prefect.resource.id": "prefect.flow-run.*"}
            trigger = EventTrigger(expect=set(events), match=runs, match_related=_OURS)
        yield AutomationCore(
            name=f"lcm-lora: tell: {what}",
            description="Disable it to hear no more of this.",
            trigger=trigger,
            actions=[
                SendNotification(block_document_id=block, subject=f"lcm-lora: {what}", body=body)
            ],
        )


def find_block(client: SyncPrefectClient, name: str) -> UUID:
    """Return the notification block that is named as `prefect block ls` does, TYPE/NAME.

    Raises:
        UserError: There is none.
    """
    kind, _, own = name.partition("/")
    try:
        return client.read_block_document_by_name(own, kind, include_secrets=False).id
    except (ObjectNotFound, ValueError):
        raise UserError(
            f"--notify {name}: no such block; name one as TYPE/NAME, such as slack-webhook/team; "
            "`prefect block ls` lists them, and Prefect's page of blocks makes one"
        ) from None


def settle(client: SyncPrefectClient, asked: AutomationCore) -> Change:
    """Make an automation as it is wanted, by its name.

    One that somebody disabled stays disabled, and of several with one name one is left.
    """
    found = client.read_automations_by_name(asked.name)
    if not found:
        client.create_automation(asked)
        return "new"
    kept = min(found, key=lambda one: one.enabled)
    for double in found:
        if double.id != kept.id:
            client.delete_automation(double.id)
    if all(getattr(kept, part) == getattr(asked, part) for part in _PARTS):
        return "changed" if found[1:] else "unchanged"
    # Whose it is was said when it was made; the server takes that only once.
    parts = asked.model_dump(exclude={"owner_resource"}) | {"enabled": kept.enabled}
    client.update_automation(kept.id, AutomationCore.model_validate(parts))
    return "changed"
