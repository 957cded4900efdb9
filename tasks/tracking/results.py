"""What an adapter's run says of it: its choice, scores, decision, report and origin."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlflow.data.dataset_source import DatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import DatasetInput, InputTag, Param
from prefect import task
from prefect.cache_policies import NO_CACHE

from lcm_lora import layout
from lcm_lora.evaluation.scores import Table
from lcm_lora.gate.decision import Decision
from lcm_lora.params.file import Params
from tasks.running.graph import hash_of, locked
from tasks.tracking.metrics import (
    difference_metrics,
    score_metrics,
    selection_metrics,
    transfer_metrics,
)
from tasks.tracking.tracker import Tracker
from tasks.tracking.training import Training

_MADE_BY = {"hardware", "base", "prepare", "evaluation", "encode", "distill", "select"}
"""Sections that an adapter depends on; how it is measured and judged may change afterwards."""
_BATCH = 100
"""MLflow takes no more parameters in one call."""


class DvcSource(DatasetSource):
    """A data set as DVC knows it: its path in the project, and the hash it is found by."""

    def __init__(self, path: str, md5: str) -> None:
        """Name a DVC output."""
        self.path = path
        self.md5 = md5

    @staticmethod
    def _get_source_type() -> str:
        return "dvc"

    def load(self) -> Any:
        """Refuse: DVC fetches data, MLflow only names it."""
        raise NotImplementedError(
            f"check out the run's commit and its dvc.lock, then dvc pull {self.path}"
        )

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        return False

    @classmethod
    def _resolve(cls, raw_source: Any) -> DvcSource:
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` takes."""
        return {"path": self.path, "md5": self.md5}

    @classmethod
    def from_dict(cls, source_dict: dict[Any, Any]) -> DvcSource:
        """Return the source that `to_dict` described."""
        return cls(source_dict["path"], source_dict["md5"])


@task(task_run_name="log results", cache_policy=NO_CACHE)
def log_results(
    tracker: Tracker, params: Params, training: Training, table: Table, decision: Decision
) -> str:
    """Give the adapter's run its choice, scores, decision, report and origin, once for each.

    Returns:
        The run's id.
    """
    hashes = locked(tracker.root)
    client, found = tracker.client, tracker.run_of(training)
    run_id, done = str(found.info.run_id), found.data.tags
    chosen = hash_of(hashes, layout.SELECTED)
    if done.get("selection_md5") != chosen:
        client.log_batch(run_id, metrics=selection_metrics(training.selection))
        client.set_tag(run_id, "chosen_step", str(training.selection.chosen))
        client.set_tag(run_id, "selection_md5", chosen)
    if done.get("scores_md5") != (scored := hash_of(hashes, layout.SCORES)):
        client.log_batch(run_id, metrics=[*score_metrics(table), *difference_metrics(table)])
        client.set_tag(run_id, "scores_md5", scored)
    decided, reported = (hash_of(hashes, path) for path in (layout.DECISION, layout.REPORT))
    # A rival that comes in changes the scores alone; another title, the report alone.
    parts = "-".join(md5[:12] for md5 in (scored, decided, reported))
    own = f"scores/{decision.protocol_sha256[:12]}/{parts}"
    if done.get("evaluation_at") == own:
        return run_id
    for name, value in {
        "decision": "promote" if decision.promote else "keep the champion",
        "decision_reason": decision.reason,
        "decision_against": decision.champion.version if decision.champion else "nobody",
    }.items():
        client.set_tag(run_id, name, value)
    _log_evaluation(tracker, run_id, own)
    _log_origin(tracker, run_id, params, hashes, set(found.data.params))
    # Last, so that an interrupted call is made good by the next.
    client.set_tag(run_id, "evaluation_at", own)
    return run_id


@task(task_run_name="log transfer", cache_policy=NO_CACHE)
def log_transfer(tracker: Tracker, run_id: str, tables: Mapping[str, Table]) -> None:
    """Give the run of an adapter its scores on other subjects and their page, once for each.

    Args:
        tracker: Where.
        run_id: The adapter's run.
        tables: By subject.
    """
    client, hashes = tracker.client, locked(tracker.root)
    report = layout.TRANSFER / "report"
    scores = {name: layout.TRANSFER / "scores" / name / "scores.json" for name in tables}
    parts = [hash_of(hashes, path) for path in (report, *scores.values())]
    own = hashlib.sha256("-".join(parts).encode()).hexdigest()
    if client.get_run(run_id).data.tags.get("transfer_at") == own:
        return
    for name, table in tables.items():
        client.log_batch(run_id, metrics=transfer_metrics(name, table))
        client.log_artifact(run_id, str(tracker.root / scores[name]), f"transfer/{name}")
    client.log_artifacts(run_id, str(tracker.root / report), "transfer/report")
    # Last, so that an interrupted call is made good by the next.
    client.set_tag(run_id, "transfer_at", own)


def _log_evaluation(tracker: Tracker, run_id: str, own: str) -> None:
    """Log scores, decision and report: where the newest are, and where nothing replaces them."""
    client, root = tracker.client, tracker.root
    for place in ("scores", own):
        client.log_artifact(run_id, str(root / layout.SCORES), place)
        client.log_artifact(run_id, str(root / layout.DECISION), place)
    for place in ("report", f"{own}/report"):
        client.log_artifacts(run_id, str(root / layout.REPORT), place)


def _log_origin(
    tracker: Tracker, run_id: str, params: Params, hashes: Mapping[Path, str], known: set[str]
) -> None:
    client = tracker.client
    # Parameters of a run are written once; what an adapter was made with never changes.
    made_by = params.model_dump(mode="json", include=_MADE_BY)
    flat = [Param(k, v) for k, v in flatten(made_by) if k not in known]
    for start in range(0, len(flat), _BATCH):
        client.log_batch(run_id, params=flat[start : start + _BATCH])
    for name in (layout.PARAMS, Path("dvc.lock")):
        client.log_artifact(run_id, str(tracker.root / name))
    shards = str(layout.SHARDS)
    data = MetaDataset(DvcSource(shards, hashes[layout.SHARDS]), shards, hashes[layout.SHARDS][:32])
    context = [InputTag("mlflow.data.context", "training")]
    client.log_inputs(run_id, [DatasetInput(data._to_mlflow_entity(), context)])


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield dotted names and texts of nested parameters; lists stay whole, as JSON."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)
