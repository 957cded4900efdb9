"""Bring the deployments of prefect.yaml to a server; what somebody paused there stays paused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.client.schemas.objects import ConcurrencyOptions
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.events import DeploymentEventTrigger
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from pydantic import Field, ValidationError

from lcm_lora.errors import UserError
from lcm_lora.params.plain import dotted, read_yaml
from lcm_lora.params.section import Section
from tasks.servers.automations import Change

DEFAULT_QUEUE = "default"
"""Prefect's own of each pool."""


class Schedule(Section):
    """When a deployment runs by itself."""

    slug: str
    """Its name within the deployment, by which it is found again."""
    cron: str
    timezone: str


class Concurrency(Section):
    """How many runs of a deployment there may be at once; one too many is dropped.

    Each holds a lease that must be renewed every few minutes, and that a restart of the server may
    forget; without it, Prefect ends the run. Where one too many is to wait, a queue makes it.
    """

    limit: int = Field(ge=1)
    collision_strategy: Literal["CANCEL_NEW"]


class Place(Section):
    """Whose workers run it."""

    name: str
    work_queue_name: str = DEFAULT_QUEUE
    """Any but that of all others lets its runs through one at a time."""
    job_variables: dict[str, Any] = Field(default_factory=dict)


class Wanted(Section):
    """A deployment as prefect.yaml has it."""

    name: str
    description: str
    entrypoint: str
    tags: tuple[str, ...]
    parameters: dict[str, Any] = Field(default_factory=dict)
    schedules: tuple[Schedule, ...] = ()
    concurrency_limit: Concurrency | None = None
    work_pool: Place
    triggers: tuple[dict[str, Any], ...] = ()


class File(Section):
    """The file prefect.yaml."""

    name: str
    pull: tuple[()]
    deployments: tuple[Wanted, ...]


def read_wanted(path: Path) -> tuple[Wanted, ...]:
    """Read prefect.yaml.

    Raises:
        UserError: It is missing, is no YAML, or says something that nothing here brings.
    """
    try:
        return File.model_validate(read_yaml(path)).deployments
    except ValidationError as error:
        problem = error.errors()[0]
        raise UserError(
            f"{path}: {dotted(list(problem['loc']))}: {problem['msg']}; mend it there"
        ) from None


@dataclass(frozen=True)
class Deployed:
    """A deployment on the server."""

    name: str
    """Such as `retrain/nightly`."""
    change: Change
    triggers: tuple[AutomationCore, ...]
    """What else starts it."""


def deploy(client: SyncPrefectClient, wanted: Wanted) -> Deployed:
    """Make a deployment as it is wanted; one that is so already is not touched.

    Touching it would drop the runs that are due, until the server plans them anew.
    """
    flow: Flow[..., Any] = load_flow_from_entrypoint(wanted.entrypoint)
    name, settings = f"{flow.name}/{wanted.name}", _settings(wanted, flow)
    change: Change = "unchanged"
    try:
        known = client.read_deployment_by_name(name)
    except ObjectNotFound:
        flow_id = client.create_flow_from_name(flow.name)
        known = client.read_deployment(
            client.create_deployment(flow_id, wanted.name, **settings, **_limit(wanted))
        )
        change = "new"
    if _differs(known, wanted, settings):
        client.update_deployment(known.id, DeploymentUpdate(**settings, **_limit(wanted)))
        change = "changed"
    if _schedule(client, known, wanted) and change == "unchanged":
        change = "changed"
    return Deployed(name, change, tuple(_triggers(wanted, known)))


def _settings(wanted: Wanted, flow: Flow[..., Any]) -> dict[str, Any]:
    return {
        "description": wanted.description,
        "entrypoint": wanted.entrypoint,
        "tags": list(wanted.tags),
        "parameters": wanted.parameters,
        "work_pool_name": wanted.work_pool.name,
        "work_queue_name": wanted.work_pool.work_queue_name,
        "job_variables": wanted.work_pool.job_variables,
        # As the server sends it back: without what is not set.
        "parameter_openapi_schema": parameter_schema(flow).model_dump(exclude_unset=True),
        "enforce_parameter_schema": True,
        "pull_steps": [],
    }


def _limit(wanted: Wanted) -> dict[str, Any]:
    if wanted.concurrency_limit is None:
        return {"concurrency_limit": None, "concurrency_options": None}
    strategy = wanted.concurrency_limit.collision_strategy
    return {
        "concurrency_limit": wanted.concurrency_limit.limit,
        "concurrency_options": ConcurrencyOptions(collision_strategy=strategy),
    }


def _differs(known: DeploymentResponse, wanted: Wanted, settings: dict[str, Any]) -> bool:
    if any(getattr(known, name) != value for name, value in settings.items()):
        return True
    limit, options = known.global_concurrency_limit, known.concurrency_options
    is_limited = limit and options and (limit.limit, options.collision_strategy)
    asked = wanted.concurrency_limit
    return is_limited != (asked and (asked.limit, asked.collision_strategy))


def _schedule(client: SyncPrefectClient, known: DeploymentResponse, wanted: Wanted) -> bool:
    """Make, change and remove schedules by their slugs; say whether there was anything to do.

    One without a slug is somebody's own, and stays.
    """
    found = {each.slug: each for each in known.schedules if each.slug}
    is_changed = False
    for slug in found.keys() - {asked.slug for asked in wanted.schedules}:
        client.delete_deployment_schedule(known.id, found[slug].id)
        is_changed = True
    for asked in wanted.schedules:
        schedule = CronSchedule(cron=asked.cron, timezone=asked.timezone)
        if asked.slug not in found:
            new = DeploymentScheduleCreate(schedule=schedule, slug=asked.slug, active=True)
            client.create_deployment_schedules(known.id, [new])
        elif found[asked.slug].schedule != schedule:
            client.update_deployment_schedule(known.id, found[asked.slug].id, schedule=schedule)
        else:
            continue
        is_changed = True
    return is_changed


def _triggers(wanted: Wanted, known: DeploymentResponse) -> Iterator[AutomationCore]:
    for asked in wanted.triggers:
        trigger = DeploymentEventTrigger(**asked)
        trigger.set_deployment_id(known.id)
        yield trigger.as_automation()
