"""What a person sees of an adapter's run in MLflow: a name that says what it did, and a page."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from mlflow.entities import RunTag
from mlflow.entities.model_registry import ModelVersion
from prefect import task
from prefect.cache_policies import NO_CACHE

from lcm_lora import markdown
from lcm_lora.evaluation.scores import Table
from lcm_lora.gate.decision import Decision
from lcm_lora.report.numbers import shown
from lcm_lora.report.style import steps_title
from tasks.champions.promotion import Move
from tasks.registry.versions import Registered, spent_on
from tasks.tracking.connecting import NOTE
from tasks.tracking.tracker import Tracker

_CAME_TO: dict[Move, str] = {
    "promoted": "new champion",
    "champion already": "new champion",
    "proposed": "waits for approval",
    "carried out before": "promoted once",
}
"""In few words, what became of a version; of others, the move says it."""
_NEWS = {"promoted", "proposed", "challenger", "refused before", "rolled back before"}
"""Moves after which a page is written anew; others change nothing that it says."""
_MOST_LETTERS = 7_500
"""MLflow cuts a tag off at 8,000."""


@task(task_run_name="write the run's page", cache_policy=NO_CACHE)
def write(
    tracker: Tracker, registered: Registered, table: Table, decision: Decision, move: Move
) -> None:
    """Name a version's run after what came of it, and say all of that on its page."""
    version = tracker.client.get_model_version(registered.name, registered.version)
    # Whoever was to write the page may have died before.
    if move not in _NEWS and NOTE in tracker.client.get_run(version.run_id).data.tags:
        return
    came_to = _CAME_TO.get(move, move)
    name = f"version {registered.version}: {came_to}{_measured(table, decision)}"
    lines = _lines(tracker, version, table, decision, came_to)
    tags = {"mlflow.runName": name, NOTE: markdown.cut("\n".join(lines), _MOST_LETTERS)}
    tracker.client.log_batch(
        version.run_id, tags=[RunTag(tag, value) for tag, value in tags.items()]
    )


def _measured(table: Table, decision: Decision) -> str:
    """Return what the gate's first rule looks at, such as `, attributes 78.1 % in 4 steps`."""
    if not decision.rules:
        return ""
    rule = decision.rules[0]
    row = table.row(rule.cell, rule.metric)
    cell = next((cell for cell in table.cells if cell.id == rule.cell), None)
    if row is None or cell is None:
        return ""
    value = shown(table.metric(rule.metric), row.value)
    return f", {rule.metric} {value} in {steps_title(cell.steps)}"


def _lines(
    tracker: Tracker, version: ModelVersion, table: Table, decision: Decision, came_to: str
) -> Iterator[str]:
    # First: MLflow folds a page to a few lines, and lays a veil over the last of them.
    yield f"{' · '.join(_links(tracker, version))}\n"
    yield f"**{version.name} version {version.version}: {came_to}**, {decision.reason}\n"
    if spent := spent_on(version):
        yield f"Cost: {spent}\n"
    yield from markdown.standing(table, decision)
    yield from markdown.rules(decision)
    yield f"`lcm-lora lineage models:/{version.name}/{version.version}` says how to make it again."


def _links(tracker: Tracker, version: ModelVersion) -> Iterator[str]:
    run = f"#/experiments/{tracker.experiment_id}/runs/{version.run_id}"
    yield f"[Report]({run}/artifacts/report/index.html)"
    yield f"[Evidence]({run}/artifacts/evidence)"
    yield f"[Version {version.version}](#/models/{quote(version.name)}/versions/{version.version})"
    if url := version.tags.get("prefect_url"):
        yield f"[Prefect]({url})"
