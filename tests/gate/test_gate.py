"""The gate's rules, as laws over tables; and which gates are refused before any work."""

from __future__ import annotations

import re

import pytest
from gate_tables import CELL, CHAMPION, METRICS, OTHER, pair_of, table_of
from hypothesis import given
from hypothesis import strategies as st

from lcm_lora.champion_record import Champion
from lcm_lora.errors import UserError
from lcm_lora.evaluation.scores import Table
from lcm_lora.gate.check import check_gate
from lcm_lora.gate.decision import Decision
from lcm_lora.gate.rules import decide, holds
from lcm_lora.params.generate import Cell
from lcm_lora.params.registry import Gate

numbers = st.floats(-100, 100)
margins = st.floats(0, 50)
BETTER, WORSE, LEVEL = (0.1, 0.3), (-0.3, -0.1), (-0.1, 0.1)


def judged(table: Table, *gates: Gate, weights: str = "adapter") -> Decision:
    return decide(table, gates, weights)


# --- one rule ---


@given(numbers, numbers)
def test_a_limit_is_about_the_value_alone(value: float, limit: float) -> None:
    table = table_of({"attributes": value, "kid:real": value}, champion=None)
    at_least = judged(table, Gate(steps=4, limits={"attributes": limit}))
    at_most = judged(table, Gate(steps=4, limits={"kid:real": limit}))
    assert at_least.promote == (value >= limit)
    assert at_most.promote == (value <= limit)
    (rule,) = at_least.rules
    assert rule.value == value
    assert rule.high - value == pytest.approx(1.96, rel=1e-3)


@given(numbers, st.floats(0, 50), margins)
def test_a_target_asks_for_more_than_a_guard(low: float, width: float, margin: float) -> None:
    ends = (low, low + width)
    for lower_is_better in (False, True):
        if holds("target", lower_is_better, *ends, margin):
            assert holds("guard", lower_is_better, *ends, 0)
            # And nobody beats another who beats him.
            assert not holds("target", lower_is_better, -ends[1], -ends[0], margin)
            assert not holds("guard", lower_is_better, -ends[1], -ends[0], 0)


@given(numbers, st.floats(0, 50), margins, st.sampled_from(["target", "guard"]))
def test_direction_turns_the_interval(low: float, width: float, margin: float, kind: str) -> None:
    ends, turned = (low, low + width), (-low - width, -low)
    assert holds(kind, False, *ends, margin) == holds(kind, True, *turned, margin)  # type: ignore[arg-type]


def test_margins_are_against_the_bad_end_of_the_interval() -> None:
    assert holds("target", False, 0.2, 0.9, 0.1)
    assert not holds("target", False, 0.2, 0.9, 0.2)
    assert holds("target", True, -0.9, -0.2, 0.1)
    assert not holds("target", True, -0.9, -0.2, 0.2)
    assert holds("guard", False, -0.2, 0.9, 0.2)
    assert not holds("guard", False, -0.3, 0.9, 0.2)
    assert holds("guard", True, -0.9, 0.2, 0.2)
    assert not holds("guard", True, -0.9, 0.3, 0.2)


# --- all rules ---

FULL = Gate(steps=4, limits={"clip_score": 20}, target={"attributes": 0}, guards={"kid:real": 0.05})


def full(
    attributes: tuple[float, float] = BETTER,
    distance: tuple[float, float] = LEVEL,
    clip_score: float = 30.0,
    champion: Champion | None = CHAMPION,
) -> Table:
    low, high = distance
    return table_of(
        {"clip_score": clip_score, "attributes": 0.7, "kid:real": 0.1},
        pair_of("attributes", *attributes),
        pair_of("kid:real", low / 10, high / 10),
        champion=champion,
    )


@pytest.mark.parametrize(
    ("table", "stopped_by"),
    [
        (full(), None),
        (full(LEVEL), "target"),
        (full(WORSE), "target"),
        (full(distance=(-0.1, 0.6)), "guard"),
        (full(clip_score=19.0), "limit"),
        (full(WORSE, clip_score=19.0), "limit"),
    ],
)
def test_all_rules_hold_or_the_first_that_fails_is_the_reason(
    table: Table, stopped_by: str | None
) -> None:
    decision = judged(table, FULL)
    failed = [rule for rule in decision.rules if rule.verdict == "failed"]
    assert decision.promote == (stopped_by is None)
    assert [rule.kind for rule in decision.rules] == ["limit", "target", "guard"]
    if stopped_by:
        assert (failed[0].kind, failed[0].words) == (stopped_by, decision.reason)
    else:
        assert not failed


def test_words_say_what_came_out_and_what_was_asked() -> None:
    won = judged(full(), FULL)
    assert won.reason == (
        "better than toy version 1: "
        "Attributes at 4 steps is better than the champion's by 20 % (10 % to 30 %)"
    )
    assert judged(full(WORSE), FULL).reason == (
        "Attributes at 4 steps is worse than the champion's by 20 % (10 % to 30 %), "
        "needed better by more than 0 %, as far as the interval says"
    )
    assert judged(full(clip_score=19.0), FULL).reason == (
        "Clip_score at 4 steps is 19, needed at least 20"
    )
    guard = judged(full(distance=(-0.1, 0.6)), FULL).rules[2]
    assert guard.words == (
        "Kid:real at 4 steps is worse than the champion's by 0.025 (-0.01 to 0.06), "
        "allowed worse by 0.05, as far as the interval says"
    )


def test_without_a_champion_limits_alone_decide() -> None:
    first = judged(full(WORSE, champion=None), FULL)
    assert first.promote
    assert first.reason == "within all limits, and nobody was champion"
    assert [rule.verdict for rule in first.rules] == ["passed", "no champion", "no champion"]
    assert not judged(full(clip_score=19.0, champion=None), FULL).promote


def test_without_a_target_guards_decide() -> None:
    gate = Gate(steps=4, guards={"kid:real": 0.05})
    kept = judged(full(LEVEL), gate)
    assert kept.promote
    assert kept.reason == "in nothing that is guarded worse than toy version 1"
    assert not judged(full(distance=(0.1, 0.6)), gate).promote


def test_the_champions_own_weights_are_not_promoted_again() -> None:
    decision = judged(full(), FULL, weights=CHAMPION.weights_sha256)
    assert not decision.promote
    assert decision.reason == "it is the champion already, toy version 1"


def test_what_a_biased_metric_says_of_few_pictures_promotes_nobody() -> None:
    gate = Gate(steps=4, target={"fd:real": 0})
    assert judged(table_of({}, pair_of("fd:real", -2, -1)), gate).promote
    for rules in (gate, Gate(steps=4, guards={"fd:real": 9})):
        undecided = judged(table_of({}, pair_of("fd:real", -2, -1, is_decisive=False)), rules)
        assert not undecided.promote
        assert "of so few pictures it does not tell" in undecided.reason


def test_what_is_painted_only_to_be_looked_at_changes_no_decision() -> None:
    """The table widens its intervals with each comparison; a rule has its own."""
    gate = Gate(steps=4, target={"attributes": 0})
    pair = pair_of("attributes", 0.001, 0.2)
    assert pair.low < 0, "not told apart among seven"
    narrow = pair.model_copy(update={"low": 0.001, "high": 0.2, "verdict": "better"})
    decisions = {judged(table_of({}, one), gate).model_dump_json() for one in (pair, narrow)}
    assert len(decisions) == 1
    assert "true" in decisions.pop()


def test_rules_are_about_their_own_cell_and_no_other() -> None:
    """One more cell, another guidance at the same steps, turns no verdict about the first."""
    table = table_of(
        {"attributes": 0.7},
        pair_of("attributes", *WORSE, cell=OTHER),
        pair_of("attributes", *BETTER),
        cells=(OTHER, CELL),
    )
    plain = Gate(steps=4, target={"attributes": 0})
    guided = Gate(steps=4, guidance=1.5, target={"attributes": 0})
    assert judged(table, plain).promote
    assert not judged(table, guided).promote
    assert not judged(table, plain, guided).promote
    assert judged(table, plain, guided).rules[1].cell == "adapter/steps-4_guidance-1.5"


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        (Gate(steps=3, target={"attributes": 0}), "no adapter at 3 steps, guidance 1"),
        (Gate(steps=4, limits={"beauty": 0}), "holds no beauty; take one of: kid:real, attributes"),
        (Gate(steps=4, limits={"fd:real": 0}), "no fd:real of adapter/steps-4_guidance-1"),
        (Gate(steps=4, target={"clip_score": 0}), "compares no clip_score of adapter/steps-4"),
    ],
)
def test_what_the_table_does_not_hold_is_one_line(gate: Gate, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        judged(full(), gate)
    assert "\n" not in str(caught.value)


# --- before any work ---

CELLS = (CELL, Cell(steps=8, guidance=1.0), Cell(steps=2, guidance=1.0, seeds=1))


def test_a_sound_gate_is_accepted() -> None:
    check_gate((FULL, Gate(steps=8, limits={"fd:real": 0, "kid:real": -1})), CELLS, METRICS)


@pytest.mark.parametrize(
    ("gates", "message"),
    [
        ((Gate(steps=3, target={"attributes": 0}),), r"\.0: the adapter is not painted at 3 steps"),
        ((Gate(steps=2, target={"attributes": 0}),), "not painted at 2 steps"),  # other noise only
        ((FULL, Gate(steps=8, guidance=2)), r"\.1: .* not painted at 8 steps"),
        ((FULL, FULL), r"\.0: 4 steps, guidance 1 are judged twice"),
        ((FULL, Gate(steps=8)), r"\.1: no rule"),
        ((Gate(steps=4, target={"beauty": 0}),), r"\.0\.target: the table will hold no beauty of"),
        ((Gate(steps=4, guards={"diversity": 0}),), r"\.0\.guards: .* no diversity of that cell"),
        (
            (Gate(steps=4, guards={"kid": 0}),),
            r"\.0\.guards: the table will hold no kid of that cell; take .*",
        ),
        (
            (Gate(steps=4, target={"attributes": 0}, guards={"attributes": 0}),),
            r"\.0: attributes is a target and a guard",
        ),
        ((Gate(steps=4, limits={"attributes": 40}),), "attributes never exceeds 1"),
        ((Gate(steps=4, limits={"clip_score": 101}),), "clip_score never exceeds 100"),
        ((Gate(steps=4, limits={"fd:real": -0.1}),), "fd:real is never below 0"),
        ((Gate(steps=4, limits={"attributes": 0.4}),), "no rule compares with the champion"),
    ],
)
def test_a_gate_that_cannot_be_meant_is_refused_in_one_line(
    gates: tuple[Gate, ...], message: str
) -> None:
    with pytest.raises(UserError, match=rf"^registry\.gate.*{message}") as caught:
        check_gate(gates, CELLS, METRICS)
    assert "\n" not in str(caught.value)
