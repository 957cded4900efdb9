"""A version becomes champion wholly or not at all, whatever happens; the journal tells which."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from promoting import AFTER, BEFORE, WEIGHTS, Dying, Model

from lcm_lora.errors import UserError
from tasks.champions.activation import OvertakenError, activate, opened
from tasks.history import journal
from tasks.history.entry import Entry, Note


def note(version: str, before: str | None = None, **more: Any) -> Note:
    said = {"by": "Anna", "why": "better rings", "approval": "person", "decision": "of it"}
    return Note(**{"version": version, "before": before} | said | more)


def go(model: Model, wanted: Note, client: Any = None) -> Entry | None:
    return activate(client or model.client, model.name, wanted, pictures=0)


def told(model: Model) -> list[tuple[str, str | None, str | None]]:
    """Return kind, version and who was before, of every entry."""
    entries = journal.read(model.client, model.name)
    return [(entry.kind, entry.version, entry.before) for entry in entries]


def settle(model: Model) -> None:
    model.forget_claims()
    with opened(model.client, model.name):
        pass


@pytest.fixture
def pair(model: Model) -> Model:
    """Version 1 is champion, version 2 challenger."""
    for weights in ("a", "b"):
        model.add(weights)
    go(model, note("1"))
    model.point("challenger", "2")
    return model


FIRST = [("intent", "1", None), ("champion", "1", None)]


def test_a_promotion_is_an_intent_and_an_entry(pair: Model) -> None:
    entry = go(pair, note("2", "1"))
    assert pair.aliases == AFTER
    assert told(pair) == [*FIRST, ("intent", "2", "1"), ("champion", "2", "1")]
    assert entry == journal.read(pair.client, pair.name)[-1]
    assert (entry.by, entry.why, entry.approval) == ("Anna", "better rings", "person")
    assert pair.client.get_model_version(pair.name, "2").tags["approval"] == "approved"
    assert go(pair, note("2", "1")) is None
    assert journal.verify(pair.client, pair.name) == []


@pytest.mark.parametrize("cost", ["12 EUR", "7", '{"eur": 3}'])
def test_a_cost_that_somebody_altered_is_not_entered(pair: Model, cost: str) -> None:
    pair.client.set_model_version_tag(pair.name, "2", "cost", cost)
    entry = go(pair, note("2", "1"))
    assert entry is not None
    assert entry.cost is None


def test_a_word_on_what_was_refused_meanwhile_comes_too_late(pair: Model) -> None:
    known = journal.read(pair.client, pair.name)[-1].number
    refused = note("2", "1", by="Bert", why="squares look dull", decision="of 2")
    with opened(pair.client, pair.name) as office:
        office.journal.append("refused", refused)
    word = note("2", "1", decision="of 2")
    with pytest.raises(OvertakenError, match=r"too late; version 2 was refused at .*look dull"):
        activate(pair.client, pair.name, word, 0, known)
    assert pair.aliases == BEFORE
    assert activate(pair.client, pair.name, word, 0, known + 1), "who knew of it may say so"


@pytest.mark.parametrize("harm", ["other weights", "gone", "other tag"])
def test_a_version_that_is_not_as_registered_does_not_become_champion(
    pair: Model, harm: str
) -> None:
    match harm:
        case "other weights":
            (pair.adapter("b") / WEIGHTS).write_text("altered")
        case "gone":
            shutil.rmtree(pair.adapter("b"))
        case "other tag":
            pair.client.set_model_version_tag(pair.name, "2", "adapter_sha256", "0")
    with pytest.raises(UserError, match=f"^{pair.name} version 2.*register it again"):
        go(pair, note("2", "1"))
    assert pair.aliases == BEFORE
    assert told(pair) == [*FIRST, ("failed", "2", "1")]


class Meddling(Dying):
    """Somebody does something in the middle."""

    def __init__(self, model: Model, after: str, does: Any) -> None:
        super().__init__(model.client)
        self._after, self._does = after, does

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)

        def meddled(*args: Any, **kwargs: Any) -> Any:
            answer = found(*args, **kwargs)
            if name == self._after and "champion" in args:
                self._does()
            return answer

        return meddled if callable(found) else found


def test_what_turns_out_damaged_after_the_move_is_taken_back(pair: Model) -> None:
    meddling = Meddling(
        pair, "set_registered_model_alias", lambda: shutil.rmtree(pair.adapter("b"), True)
    )
    with pytest.raises(UserError, match="cannot be fetched"):
        go(pair, note("2", "1"), meddling)
    assert pair.aliases == BEFORE
    assert told(pair)[2:] == [("intent", "2", "1"), ("failed", "2", "1")]


def test_an_alias_that_somebody_moves_in_the_middle_is_left_there(pair: Model) -> None:
    pair.add("c")
    meddling = Meddling(pair, "set_registered_model_alias", lambda: pair.point("champion", "3"))
    with pytest.raises(OvertakenError, match="version 2: not promoted, since version 3 became"):
        go(pair, note("2", "1"), meddling)
    assert pair.aliases == {"champion": "3", "challenger": "2"}
    settle(pair)
    assert told(pair)[2:] == [
        ("intent", "2", "1"),
        ("failed", "2", "1"),
        ("by hand", "3", "1"),
    ]


def test_of_two_at_once_one_wins_and_the_other_is_told_who(pair: Model) -> None:
    pair.add("c")
    start = Barrier(2)

    def race(version: str) -> str:
        start.wait()
        try:
            go(pair, note(version, "1", by=f"who wants {version}"))
        except OvertakenError as error:
            return str(error)
        return "won"

    with ThreadPoolExecutor() as pool:
        ends = list(pool.map(race, ("2", "3")))
    assert ends.count("won") == 1
    winner = ("2", "3")[ends.index("won")]
    (loss,) = (end for end in ends if end != "won")
    assert f"since version {winner} became champion at " in loss
    assert f"by who wants {winner}: better rings; judge it again" in loss
    assert pair.aliases["champion"] == winner
    assert told(pair)[2:] == [("intent", winner, "1"), ("champion", winner, "1")]


def test_who_is_made_champion_by_hand_is_entered_once(pair: Model) -> None:
    pair.point("champion", "2")
    settle(pair)
    settle(pair)
    pair.client.delete_registered_model_alias(pair.name, "champion")
    settle(pair)
    assert told(pair)[2:] == [("by hand", "2", "1"), ("by hand", None, "2")]
    last = journal.read(pair.client, pair.name)[-1]
    assert (last.by, last.why) == (None, "moved in MLflow by somebody who left no word")


def test_a_champion_of_before_the_journal_is_its_first_entry(model: Model) -> None:
    model.add("a")
    model.point("champion", "1")
    settle(model)
    (entry,) = journal.read(model.client, model.name)
    assert (entry.kind, entry.version) == ("by hand", "1")
    assert entry.why == "was champion already when the journal began"
