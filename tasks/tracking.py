"""MLflow runs: one for each adapter, with its curve, scores, pictures and origin."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import psutil
from mlflow import MlflowClient
from mlflow.data.dataset_source import DatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import DatasetInput, InputTag, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from prefect import task
from prefect.cache_policies import NO_CACHE

from lcm_lora import layout
from lcm_lora.errors import UserError, reason
from lcm_lora.evaluation.scores import Table
from lcm_lora.gate.decision import Decision
from lcm_lora.params.file import Params, load_params
from lcm_lora.training.curve import CURVE
from tasks.curve import Curve
from tasks.graph import hash_of, locked
from tasks.metrics import (
    difference_metrics,
    score_metrics,
    selection_metrics,
    transfer_metrics,
)
from tasks.prefect_run import PrefectRun
from tasks.training import Course, Training, read_course

NOTE = "mlflow.note.content"
"""Tag of a run or an experiment: its description, in Markdown."""
_DESCRIPTION = """\
One run an adapter, named after what came of it; its page has the scores, the gate's verdict, the
cost and the links. Curves: `train/…` and `select/…` by step of training; `METRIC/PAINTER` by
sampling steps. Artifacts: `report` and `scores` of the newest evaluation, and `evidence`, which is
what its version is made of. Who was champion when is in the experiment of the journal."""

LIVE_CURVE = layout.CHECKPOINTS / "distill" / CURVE

_SECONDS_OF_DOUBT = 3.0
"""By so much a process's time of start, or that of a file, may seem to move."""
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


@dataclass(frozen=True)
class Tracker:
    """One project's place in one MLflow."""

    client: MlflowClient
    experiment_id: str
    root: Path

    def find_run(self, adapter_sha256: str) -> Run | None:
        """Return the run of an adapter, by its weights; the first one, if it was made twice."""
        runs = self.client.search_runs(
            [self.experiment_id],
            f"tags.adapter_sha256 = '{adapter_sha256}'",
            max_results=1,
            order_by=["attributes.start_time ASC"],
        )
        return runs[0] if runs else None

    @contextlib.contextmanager
    def follow_training(self) -> Iterator[None]:
        """Keep a run that gets the curve live while the block trains.

        A lost MLflow stops no training: `log_results` makes a run afterwards.

        Raises:
            UserError: What the training left is damaged.
        """
        # Making the run takes a while on a busy machine; the training has begun meanwhile.
        since = time.time() - _SECONDS_OF_DOUBT
        try:
            run_id = self._new_run()
        except MlflowException:
            yield
            return
        curve = Curve(self.client, run_id)
        try:
            with curve.follow(self.root / LIVE_CURVE, since):
                yield
            with contextlib.suppress(MlflowException):
                self._finish(run_id, curve, read_course(self.root))
        except BaseException:
            with contextlib.suppress(MlflowException):
                self.client.set_terminated(run_id, "FAILED")
            raise

    def run_of(self, training: Training) -> Run:
        """Return the run of an adapter.

        It is its training's, if no other candidate of that has it; or a new one, if the adapter was
        trained without this MLflow, or is another choice of a training that is known.
        """
        if found := self.find_run(training.recipe.weights_sha256):
            return found
        free = self._free_run(training)
        if free:
            self._give(free, training)
        return self.client.get_run(free or self.adopt_training(training))

    def adopt_training(self, training: Training) -> str:
        """Make a run for an adapter that has none; return its id."""
        run_id = self._new_run()
        self._finish(run_id, Curve(self.client, run_id), training)
        self._give(run_id, training)
        return run_id

    def close_dead_runs(self) -> None:
        """Close the runs of processes that have died on this host; nobody else will."""
        running = self.client.search_runs(
            [self.experiment_id],
            f"attributes.status = 'RUNNING' and tags.process_host = '{socket.gethostname()}'",
        )
        for run in running:
            if not _is_alive(run.data.tags):
                self.client.set_terminated(run.info.run_id, "KILLED")

    def _new_run(self) -> str:
        prefect = PrefectRun.current()
        tags = git_state(self.root) | _this_process() | (prefect.tags if prefect else {})
        run = self.client.create_run(self.experiment_id, tags=tags, run_name=_purpose(self.root))
        return str(run.info.run_id)

    def _free_run(self, course: Course) -> str | None:
        """Return the latest run of a training that no adapter has yet."""
        runs = self.client.search_runs(
            [self.experiment_id],
            f"tags.candidates_sha256 = '{course.candidates_sha256}'",
            order_by=["attributes.start_time DESC"],
        )
        free = (run.info.run_id for run in runs if "adapter_sha256" not in run.data.tags)
        return next(free, None)

    def _finish(self, run_id: str, curve: Curve, course: Course) -> None:
        curve.log(course.curve)
        self._tag(
            run_id,
            _source(course.origin.git_commit, course.origin.git_dirty)
            | {"candidates_sha256": course.candidates_sha256},
        )
        self.client.set_terminated(run_id)

    def _give(self, run_id: str, training: Training) -> None:
        sha256 = training.recipe.weights_sha256
        name = f"adapter {sha256[:8]}, step {training.selection.chosen} of distill"
        self._tag(run_id, {"mlflow.runName": name, "adapter_sha256": sha256})

    def _tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        self.client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])


def connect(root: Path, experiment: str) -> Tracker:
    """Return the tracker of `experiment`, which is made if it is new, and close its dead runs.

    Raises:
        UserError: No MLflow answers at MLFLOW_TRACKING_URI.
    """
    uri = os.environ["MLFLOW_TRACKING_URI"]
    database = _database(uri)
    # A server has a place of its own for artifacts; a bare database needs one.
    place = (root / ".mlflow" / "artifacts").as_uri() if database else None
    with _answering(uri):
        if database:
            database.parent.mkdir(parents=True, exist_ok=True)
        with _impatience():
            client = _client(uri)
            found = client.get_experiment_by_name(experiment)
            made = found.experiment_id if found else client.create_experiment(experiment, place)
            if found is None or NOTE not in found.tags:
                client.set_experiment_tag(made, NOTE, _DESCRIPTION)
            tracker = Tracker(client, made, root)
            tracker.close_dead_runs()
    return tracker


@contextlib.contextmanager
def reading() -> Iterator[MlflowClient]:
    """Yield a client of the MLflow at MLFLOW_TRACKING_URI, for whoever only reads there.

    Raises:
        UserError: No MLflow answers there, or it will not.
    """
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if (database := _database(uri)) and not database.exists():
        raise UserError(
            f"{database}: no such registry; name it by MLFLOW_TRACKING_URI, or run in the folder "
            "of a project that has one"
        )
    with _answering(uri), _impatience():
        yield _client(uri)


def _database(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def _client(uri: str) -> MlflowClient:
    mlflow.set_tracking_uri(uri)
    return MlflowClient()


@contextlib.contextmanager
def _answering(uri: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        text = f"MLflow at {uri} does not answer: {reason(error)}"
        shown = re.sub("//[^/@]*@", "//", text)  # a password in it is nobody's to read
        raise UserError(
            f"{shown}; start it, or unset MLFLOW_TRACKING_URI to keep runs in .mlflow"
        ) from None


@contextlib.contextmanager
def _impatience() -> Iterator[None]:
    """Give up on a silent server in seconds; MLflow's own patience is minutes."""
    wanted = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


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


def params_sha256(params: Params) -> str:
    """Return the identity of the parameters, whatever their file's layout and comments."""
    return hashlib.sha256(params.model_dump_json().encode()).hexdigest()


def _purpose(root: Path) -> str:
    """Return the name of a run that trains, as long as nothing has come of it."""
    with contextlib.suppress(UserError):
        params = load_params(root / layout.PARAMS)
        return f"training: {params.distill.steps} steps of distill on {params.base.model}"
    return "training"


def git_state(root: Path) -> dict[str, str]:
    """Return the commit, and whether anything that no run keeps differs from it, as tags."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
        return done.stdout.strip()

    dirty = git("status", "--porcelain", "--", ".", ":!dvc.lock", f":!{layout.PARAMS}")
    return _source(git("rev-parse", "--verify", "--quiet", "HEAD") or "unknown", bool(dirty))


def _source(commit: str, is_dirty: bool) -> dict[str, str]:
    return {"mlflow.source.git.commit": commit, "git_dirty": str(is_dirty).lower()}


def _this_process() -> dict[str, str]:
    process = psutil.Process()
    return {
        "process_host": socket.gethostname(),
        "process_pid": str(process.pid),
        "process_started": f"{process.create_time():.2f}",
    }


def _is_alive(tags: Mapping[str, str]) -> bool:
    """Tell whether the process on this host that tags name is still the same, and runs."""
    try:
        process = psutil.Process(int(tags["process_pid"]))
        moved = abs(process.create_time() - float(tags["process_started"]))
        return moved < _SECONDS_OF_DOUBT and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
