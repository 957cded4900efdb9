"""Whatever is done to one entry of a journal, it is said which."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tasks.history.chain import Head, Stored, chained
from tasks.history.entry import Entry, hash_of


def entry(number: int, previous: str, why: str = "so it is") -> Entry:
    return Entry(
        version=str(number),
        before=None,
        by="Anna",
        why=why,
        number=number,
        at="2026-11-26T08:00:00+00:00",
        kind="champion",
        previous=previous,
    )


def stored(one: Entry) -> Stored:
    return Stored(one, one.text, f"run-{one.number}")


def journal(length: int) -> tuple[list[Stored], Head]:
    made, previous = list[Stored](), ""
    for number in range(1, length + 1):
        made.append(stored(entry(number, previous)))
        previous = made[-1].sha256
    return made, (length, previous)


def unproved(number: int) -> str:
    return f", so entry {number - 1} cannot be proved" if number > 1 else ""


lengths = st.integers(1, 9)


@given(lengths, st.data())
def test_an_untouched_journal_is_sound_wherever_its_makers_died(
    length: int, data: st.DataObject
) -> None:
    made, _ = journal(length)
    known = data.draw(st.integers(0, length))  # the registered model is told after the entry
    head = (known, made[known - 1].sha256 if known else "")
    doubled = data.draw(st.lists(st.sampled_from(made), max_size=2))  # a call that was made twice
    chain = chained(data.draw(st.permutations(made)) + doubled, head)
    assert (chain.damages, chain.head) == ([], (length, made[-1].sha256))
    assert [one.entry for one in chain.sound] == [one.entry for one in made]


@given(lengths, st.data())
def test_one_that_is_changed_is_named(length: int, data: st.DataObject) -> None:
    made, head = journal(length)
    number = data.draw(st.integers(1, length))
    made[number - 1] = stored(made[number - 1].entry.model_copy(update={"by": "Bert"}))
    chain = chained(made, head)
    assert chain.damages == [f"entry {number} was changed (run run-{number}){unproved(number)}"]
    assert number not in [one.entry.number for one in chain.sound]
    assert len(chain.sound) == length - 1


@given(st.integers(2, 9), st.data())
def test_of_two_neighbours_that_are_changed_both_are_named(
    length: int, data: st.DataObject
) -> None:
    made, head = journal(length)
    number = data.draw(st.integers(2, length))
    for place in (number - 2, number - 1):
        made[place] = stored(made[place].entry.model_copy(update={"by": "Bert"}))
    said = "\n".join(chained(made, head).damages)
    assert f"entry {number} was changed" in said
    assert f"entry {number - 1} cannot be proved" in said


@given(lengths, st.data())
def test_one_that_is_removed_is_named(length: int, data: st.DataObject) -> None:
    made, head = journal(length)
    number = data.draw(st.integers(1, length))
    del made[number - 1]
    assert chained(made, head).damages == [f"entry {number} was removed{unproved(number)}"]


@given(lengths, st.data())
def test_one_that_is_inserted_is_named(length: int, data: st.DataObject) -> None:
    made, head = journal(length)
    number = data.draw(st.integers(1, length + 3))
    previous = data.draw(st.sampled_from(["", hash_of("x"), *(one.sha256 for one in made[:-1])]))
    forged = stored(entry(number, previous, why="forged"))
    chain = chained([forged, *made], head)
    assert chain.damages == [f"an entry {number} was inserted (run run-{number})"]
    assert [one.entry for one in chain.sound] == [one.entry for one in made]


@given(lengths, st.data())
def test_what_was_changed_and_hashed_anew_does_not_hang_together(
    length: int, data: st.DataObject
) -> None:
    """Whoever changes an entry and all after it still has the head against them."""
    made, head = journal(length)
    number = data.draw(st.integers(1, length))
    previous = made[number - 2].sha256 if number > 1 else ""
    for later in range(number, length + 1):
        made[later - 1] = stored(entry(later, previous, why="forged"))
        previous = made[later - 1].sha256
    chain = chained(made, head)
    said = f"entry {length} was changed (run run-{length}){unproved(length)}"
    assert chain.damages[-1] == said
