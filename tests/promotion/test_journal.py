"""The journal is kept in MLflow, and what somebody does to it there is seen."""

from __future__ import annotations

import pytest
from mlflow.entities import Run
from promoting import Model

from lcm_lora.errors import UserError
from tasks.history import journal
from tasks.history.entry import Note
from tasks.history.journal import Journal


@pytest.fixture
def kept(model: Model) -> Journal:
    """A journal of three entries about two versions."""
    made = Journal(model.client, model.name)
    for version in ("1", "2", "1"):
        made.append("champion", Note(version=version, before=None, by="Anna", why="so it is"))
    return made


def runs(model: Model) -> dict[str, Run]:
    """Return the runs of the journal by their names."""
    experiment = model.client.get_experiment_by_name(f"{model.name} journal")
    found = model.client.search_runs([experiment.experiment_id])
    return {run.info.run_name: run for run in found}


def test_an_entry_is_a_run_that_says_what_it_is(model: Model, kept: Journal) -> None:
    assert set(runs(model)) == {f"{n} champion: version {v}" for n, v in ((1, 1), (2, 2), (3, 1))}
    assert journal.read(model.client, model.name) == kept.entries
    assert [entry.number for entry in kept.entries] == [1, 2, 3]
    assert journal.verify(model.client, model.name) == []


def test_a_journal_that_nobody_began_is_empty(model: Model) -> None:
    assert journal.read(model.client, model.name) == []
    assert journal.read(model.client, "no such model") == []
    assert journal.verify(model.client, model.name) == []


def test_a_changed_entry_is_seen(model: Model, kept: Journal) -> None:
    run = runs(model)["2 champion: version 2"]
    altered = run.data.tags["journal.entry"].replace("Anna", "Bert")
    model.client.set_tag(run.info.run_id, "journal.entry", altered)
    assert journal.verify(model.client, model.name) == [
        f"entry 2 was changed (run {run.info.run_id}), so entry 1 cannot be proved"
    ]
    model.client.set_tag(run.info.run_id, "journal.entry", "nonsense")
    assert journal.verify(model.client, model.name) == [
        "entry 2 was removed, so entry 1 cannot be proved",
        f"run {run.info.run_id} holds no entry",
    ]


def test_a_deleted_entry_is_seen_and_still_read(model: Model, kept: Journal) -> None:
    run_id = runs(model)["3 champion: version 1"].info.run_id
    model.client.delete_run(run_id)
    (damage,) = journal.verify(model.client, model.name)
    assert damage.startswith(f"entry 3 was deleted; `mlflow runs restore --run-id {run_id}`")
    assert len(journal.read(model.client, model.name)) == 3
    model.client.restore_run(run_id)
    assert journal.verify(model.client, model.name) == []


def test_a_lost_head_is_seen(model: Model, kept: Journal) -> None:
    model.client.delete_registered_model_tag(model.name, "journal.head")
    assert journal.verify(model.client, model.name) == [
        f"the registered model {model.name} has lost its tag journal.head"
    ]


def test_after_damage_the_journal_goes_on_and_the_damage_stays_seen(
    model: Model, kept: Journal
) -> None:
    last = runs(model)["3 champion: version 1"]
    altered = last.data.tags["journal.entry"].replace("Anna", "Bert")
    model.client.set_tag(last.info.run_id, "journal.entry", altered)
    entry = Journal(model.client, model.name).append(
        "failed", Note(version="2", before="1", by="gate", why="so it is")
    )
    assert entry.number == 4
    assert journal.verify(model.client, model.name) == [
        f"entry 3 was changed (run {last.info.run_id}), so entry 2 cannot be proved"
    ]


def test_who_slept_while_another_entered_something_enters_nothing(
    model: Model, kept: Journal
) -> None:
    """As one whose machine stood still for so long that it was taken for dead."""
    word = Note(version="2", before="1", by="Anna", why="so it is")
    Journal(model.client, model.name).append("failed", word)
    with pytest.raises(UserError, match="have changed the champion meanwhile; run again"):
        kept.append("champion", word)
    assert journal.verify(model.client, model.name) == []
    assert [entry.kind for entry in journal.read(model.client, model.name)][3:] == ["failed"]


def test_a_journal_that_was_thrown_away_is_one_line(model: Model, kept: Journal) -> None:
    experiment = model.client.get_experiment_by_name(f"{model.name} journal")
    model.client.delete_experiment(experiment.experiment_id)
    with pytest.raises(UserError, match=f"{model.name} journal: deleted, and nobody becomes"):
        Journal(model.client, model.name)


def test_what_a_person_writes_at_length_is_kept_short_enough(model: Model) -> None:
    long = Note(version="1", before=None, by="Anna", why="word " * 2000)
    entry = Journal(model.client, model.name).append("refused", long)
    assert journal.read(model.client, model.name) == [entry]
    assert journal.verify(model.client, model.name) == []
