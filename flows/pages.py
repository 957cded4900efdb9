"""Say on a run's page in Prefect what it came to: its name, the verdict, the stages, the links."""

from __future__ import annotations

import base64
import contextlib
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
from mlflow.exceptions import MlflowException
from PIL import Image
from prefect import runtime
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.orchestration import get_client
from prefect.logging import get_run_logger
from prefect.utilities.urls import url_for

from flows.judging import Judged
from lcm_lora import layout, markdown
from lcm_lora.errors import reason
from tasks.champions.promotion import Move
from tasks.registry.versions import spent_on
from tasks.running.stage import Outcome
from tasks.tracking.tracker import Tracker

_CAME_TO: dict[Move, str] = {
    "promoted": "new champion",
    "champion already": "is champion",
    "proposed": "waits for approval",
    "carried out before": "promoted once",
}
"""In few words, what became of a version; of others, the move says it."""

_GRID, _WIDTH = "grid.png", 900
"""Of the report, and how many pixels of it a page shows across."""


def show(tracker: Tracker, judged: Judged, outcomes: Sequence[Outcome]) -> None:
    """Name the run after what it did, and leave the verdict and the stages on its page.

    A server that is away costs the run nothing else.
    """
    version = judged.version
    title = f"version {version.version}: {_CAME_TO.get(judged.move, judged.move)}"
    key = re.sub(r"[^a-z0-9]+", "-", version.name.lower()).strip("-")
    rename(title)
    try:
        create_markdown_artifact(
            "\n".join(verdict(tracker, judged, title)), f"{key}-verdict", description=title
        )
        create_table_artifact(list(_stages(outcomes)), f"{key}-stages", description=title)
    except (httpx.HTTPError, MlflowException) as error:
        _warn("The page of this run stays without its verdict", error)


def rename(name: str) -> None:
    """Give the flow run of the caller another name, if the server is there to hear it."""
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run(runtime.flow_run.id, name=name)
    except httpx.HTTPError as error:
        _warn(f"This run keeps its name, and should be called {name}", error)


def _warn(what: str, error: Exception) -> None:
    get_run_logger().warning("%s: %s", what, reason(error))


def verdict(tracker: Tracker, judged: Judged, title: str) -> Iterator[str]:
    """Yield, in Markdown, what a run came to: scores, rules, links and the grid of pictures."""
    table, decision = judged.table, judged.decision
    yield f"# {judged.version.name} {title}\n\n{decision.reason}\n"
    yield from _links(tracker, judged)
    if judged.asks:
        yield f"Approval: [{judged.asks.name}]({url_for(judged.asks)})\n"
    yield from markdown.rules(decision)
    yield from markdown.standing(table, decision)
    with contextlib.suppress(OSError):
        yield f"![adapter and champion]({picture(tracker.root / layout.REPORT / _GRID)})"


def _stages(outcomes: Iterable[Outcome]) -> Iterator[dict[str, str]]:
    for outcome in outcomes:
        seconds = f"{outcome.seconds:.0f}" if outcome.verdict == "Ran" else ""
        yield {"stage": outcome.name, "state": outcome.verdict, "seconds": seconds}


def _links(tracker: Tracker, judged: Judged) -> Iterator[str]:
    """Yield what the version took, and where it, its run and its report are."""
    version = tracker.client.get_model_version(judged.version.name, judged.version.version)
    if spent := spent_on(version):
        yield f"Cost: {spent}\n"
    base = server_of(tracker.client.tracking_uri)
    if base is None:
        yield f"Report: `{tracker.root / layout.REPORT / 'index.html'}`; MLflow: `make ui`\n"
        return
    run = f"{base}/#/experiments/{tracker.experiment_id}/runs/{version.run_id}"
    model = f"{base}/#/models/{quote(version.name)}/versions/{version.version}"
    report = f"{run}/artifacts/report/index.html"
    yield f"In MLflow: [run]({run}), [report]({report}), [version]({model})\n"


def server_of(tracking_uri: str) -> str | None:
    """Return where MLflow's pages are, without what may be secret in it; None if it has none."""
    address = urlsplit(tracking_uri)
    if address.scheme not in {"http", "https"}:
        return None
    port = f":{address.port}" if address.port else ""
    return f"{address.scheme}://{address.hostname}{port}{address.path.rstrip('/')}"


def picture(path: Path) -> str:
    """Return a picture small enough to be part of a page, as the page names it.

    Raises:
        OSError: There is none.
    """
    with Image.open(path) as opened:
        small = opened.convert("RGB")
    small.thumbnail((_WIDTH, _WIDTH))
    made = io.BytesIO()
    small.save(made, "JPEG", quality=70)
    return f"data:image/jpeg;base64,{base64.b64encode(made.getvalue()).decode()}"
