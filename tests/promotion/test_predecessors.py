"""What the journal tells of champions: who is, who was, whom a rollback returns to."""

from __future__ import annotations

from tasks.history.entry import Entry, Kind
from tasks.history.succession import champion_of, champions, is_rolled_back, outcome_of, predecessor


def told(*steps: str) -> list[Entry]:
    """Return entries: `3` is a promotion, `<3` a rollback, `!3` a move by hand, `!` to nobody."""
    entries, before = list[Entry](), None
    for number, step in enumerate(steps, 1):
        kind: Kind = "by hand" if step.startswith("!") else "champion"
        version = step.lstrip("<!") or None
        entries.append(
            Entry(
                version=version,
                before=before,
                by="Anna",
                why="so it is",
                number=number,
                at="",
                kind=kind,
                previous="",
                is_rollback=step.startswith("<"),
                decision=f"of {version}",
            )
        )
        before = version
    return entries


def test_the_last_who_was_crowned_is_champion() -> None:
    assert champion_of([]) is None
    assert champion_of(told("1", "2", "<1")) == "1"
    failed = told("1", "2")[1].model_copy(update={"kind": "failed"})
    assert champion_of([*told("1"), failed]) == "1"
    assert champion_of(told("1", "!")) is None
    assert champions(told("1", "!", "!3", "1")) == ["1", "3"]


def test_a_rollback_goes_one_back_and_the_next_one_further() -> None:
    assert predecessor(told("1")) is None
    assert predecessor(told("1", "2", "3")) == "2"
    assert predecessor(told("1", "2", "3", "<2")) == "1"
    assert predecessor(told("1", "2", "3", "<2", "<1")) is None
    assert predecessor(told("1", "2", "3", "<1")) is None
    assert predecessor(told("1", "2", "3", "<2", "4")) == "2"
    assert predecessor(told("1", "2", "!1")) == "2"
    assert predecessor(told("1", "2", "!")) == "2"


def test_who_was_rolled_back_is_until_somebody_returns_to_it() -> None:
    assert not is_rolled_back(told("1", "2"), "1")
    assert is_rolled_back(told("1", "2", "<1"), "2")
    assert is_rolled_back(told("1", "2", "<1", "3"), "2")
    assert not is_rolled_back(told("1", "2", "<1", "2"), "2")
    assert is_rolled_back(told("1", "2", "3", "!1"), "3")
    assert is_rolled_back(told("1", "2", "!"), "2")
    assert not is_rolled_back(told("1", "2", "!1", "!2"), "2")
    assert not is_rolled_back(told("1", "!")[1:], "1"), "another had its number"


def test_a_decision_ends_once() -> None:
    entries = told("1", "2")
    end = outcome_of(entries, "of 2")
    assert end is not None
    assert end.number == 2
    assert outcome_of(entries, "of 3") is None
