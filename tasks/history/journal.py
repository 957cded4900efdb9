"""The journal of a registered model, in MLflow: append-only, and nobody changes it unseen.

An entry is a run of an experiment, made in one call with all that it says, so it is there or not.
Each carries the hash of the one before, and the registered model that of the last.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.entities import Experiment, Run, ViewType
from mlflow.exceptions import MlflowException

from lcm_lora.errors import UserError
from lcm_lora.records import parse_record
from tasks.history.chain import Chain, Head, Stored, chained
from tasks.history.entry import Entry, Kind, Note
from tasks.servers import events

ENTRY = "journal.entry"
"""Tag of a run: the entry as JSON."""
HEAD = "journal.head"
"""Tag of the registered model: number and hash of the last entry."""
COPIES = "evidence/promotions"
"""Among the artifacts of a version's run: the entries about it, once more."""

_MOST_LETTERS = 1000
"""Of what is said in an entry; MLflow cuts a tag off at 8,000."""
_PAGE = 1000


def read(client: MlflowClient, name: str) -> list[Entry]:
    """Return the sound entries of a registered model's journal, the first one first."""
    return [one.entry for one in _chain(client, name)[0].sound]


def verify(client: MlflowClient, name: str) -> list[str]:
    """Say which entries somebody changed, removed or inserted; nothing if none."""
    chain, foreign = _chain(client, name)
    found = [*chain.damages, *(f"run {run} holds no entry" for run in foreign)]
    if chain.head[0] and _head(client, name) == (0, ""):
        found.append(f"the registered model {name} has lost its tag {HEAD}")
    return found


class Journal:
    """The journal of a registered model, for whoever holds the claim to change that model."""

    def __init__(self, client: MlflowClient, name: str) -> None:
        """Open it, and conclude the last entry if who made it died over that.

        Args:
            client: Of the registry.
            name: Of the registered model, which exists.

        Raises:
            UserError: Somebody deleted the whole of it.
        """
        self._client, self._name = client, name
        self._experiment = _made_experiment(client, name)
        self.reread()
        if self._stored and self._head != _head(client, name):
            self._conclude(self._stored[-1])

    def reread(self) -> None:
        """Look again at what is stored, after a call whose answer was lost."""
        chain, _ = _chain(self._client, self._name)
        self._stored, self._head = chain.sound, chain.head

    @property
    def entries(self) -> list[Entry]:
        """The sound ones, the first one first."""
        return [one.entry for one in self._stored]

    @property
    def last(self) -> Entry | None:
        """The last entry."""
        return self._stored[-1].entry if self._stored else None

    def append(self, kind: Kind, note: Note) -> Entry:
        """Enter something; once the run is made, it stays.

        Raises:
            UserError: Somebody else entered something since this was opened, whose claim counts.
        """
        number, previous = self._head
        known = _head(self._client, self._name)
        if known != self._head and known[0] >= number:
            raise UserError(
                f"{self._name}: others, who took this process for dead, have changed the champion "
                "meanwhile; run again"
            )
        entry = Entry(
            **note.model_dump(include=set(Note.model_fields), exclude={"why"}),
            why=note.why[:_MOST_LETTERS],
            number=number + 1,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            kind=kind,
            previous=previous,
        )
        run = self._client.create_run(
            self._experiment,
            start_time=int(time.time() * 1000),
            tags={ENTRY: entry.text},
            run_name=entry.title,
        )
        self._stored.append(Stored(entry, entry.text, str(run.info.run_id)))
        self._head = entry.number, self._stored[-1].sha256
        self._conclude(self._stored[-1])
        return entry

    def _conclude(self, stored: Stored) -> None:
        """Do what follows from an entry; whoever comes next does it again if this is cut short."""
        if not stored.is_ended and not stored.is_deleted:
            self._client.set_terminated(stored.run_id)
        self._copy(stored.entry)
        _tell(self._name, stored.entry)
        number, sha256 = self._head
        self._client.set_registered_model_tag(self._name, HEAD, f"{number} {sha256}")

    def _copy(self, entry: Entry) -> None:
        """Put an entry beside the evidence of its version; the journal itself is what counts."""
        if entry.version is None or entry.kind == "intent":
            return
        # The version or its run may be gone, and the store of artifacts out of reach.
        with contextlib.suppress(Exception):
            version = self._client.get_model_version(self._name, entry.version)
            if version.run_id:
                file = f"{COPIES}/{entry.number}.json"
                self._client.log_dict(version.run_id, json.loads(entry.text), file)


def _chain(client: MlflowClient, name: str) -> tuple[Chain, list[str]]:
    """Return what hangs together, and the ids of runs that hold no entry."""
    experiment = client.get_experiment_by_name(_title(name))
    stored, foreign = list[Stored](), list[str]()
    for run in _runs(client, experiment) if experiment else ():
        try:
            stored.append(_stored(run))
        except UserError:
            foreign.append(str(run.info.run_id))
    return chained(stored, _head(client, name)), foreign


def _runs(client: MlflowClient, experiment: Experiment) -> Iterator[Run]:
    """Yield the runs of an experiment, the first one first, also those in MLflow's bin."""
    how = {
        "run_view_type": ViewType.ALL,
        "max_results": _PAGE,
        "order_by": ["attributes.start_time ASC"],
    }
    page = client.search_runs([experiment.experiment_id], **how)
    yield from page
    while page.token:
        page = client.search_runs([experiment.experiment_id], **how, page_token=page.token)
        yield from page


def _stored(run: Run) -> Stored:
    text = run.data.tags.get(ENTRY, "")
    entry = parse_record(text, Entry, f"run {run.info.run_id}", "restore it")
    is_deleted = run.info.lifecycle_stage == "deleted"
    return Stored(entry, text, str(run.info.run_id), run.info.status == "FINISHED", is_deleted)


def _head(client: MlflowClient, name: str) -> Head:
    try:
        tag = client.get_registered_model(name).tags.get(HEAD, "")
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return 0, ""
    number, _, sha256 = tag.partition(" ")
    return (int(number), sha256) if number.isdecimal() else (0, "")


def _title(name: str) -> str:
    """Return the name of a registered model's journal among MLflow's experiments."""
    return f"{name} journal"


def _made_experiment(client: MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(_title(name))
    if found is None:
        with contextlib.suppress(MlflowException):  # somebody else makes it just now
            return str(client.create_experiment(_title(name)))
        found = client.get_experiment_by_name(_title(name))
    if found is None or found.lifecycle_stage == "deleted":
        raise UserError(
            f"MLflow experiment {_title(name)}: deleted, and nobody becomes champion without a "
            "journal; bring it back by `mlflow experiments restore`"
        )
    return str(found.experiment_id)


def _tell(name: str, entry: Entry) -> None:
    """Say to Prefect's server what was entered."""
    happenings: dict[Kind, events.Happening] = {
        "champion": "champion.rolled-back" if entry.is_rollback else "adapter.promoted",
        "refused": "adapter.refused",
        "by hand": "champion.moved-by-hand",
    }
    if entry.kind in happenings:
        payload = {"name": name, **entry.model_dump(mode="json")}
        events.emit(happenings[entry.kind], events.model(name), payload)
