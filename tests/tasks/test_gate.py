"""The gate's rules, as laws over score tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcm_lora.errors import UserError
from lcm_lora.evaluation.table import Row, Table
from lcm_lora.params.registry import Gate
from tasks.gate import decide, read

values = st.floats(0.1, 100)
errors = st.floats(0, 5)
GATE = Gate(steps=4, metric="fd_shapes:real", limit=1000)


def table(
    value: float, se: float = 0.0, metric: str = "fd_shapes:real", protocol: str = "same"
) -> Table:
    row = Row(
        sampler="lcm",
        steps=4,
        guidance=1.0,
        seeds=0,
        nfe=4,
        metric=metric,
        value=value,
        se=se,
        n=8,
        network="shapes",
        ms=None,
    )
    other = row.model_copy(update={"steps": 1, "value": 1e9})
    return Table(protocol={"sha256": protocol}, rows=(other, row), paired=())


@given(values, st.floats(0.1, 100))
def test_without_a_champion_the_limit_decides(value: float, limit: float) -> None:
    lower = Gate(steps=4, metric="fd_shapes:real", limit=limit)
    higher = Gate(steps=4, metric="clip_score", limit=limit)
    assert decide(table(value), None, lower).promote == (value <= limit)
    assert decide(table(value, metric="clip_score"), None, higher).promote == (value >= limit)


@given(values, errors, values, errors)
def test_two_adapters_never_beat_each_other(a: float, ea: float, b: float, eb: float) -> None:
    first, second = table(a, ea), table(b, eb)
    assert not (decide(first, second, GATE).promote and decide(second, first, GATE).promote)


@given(values, errors)
def test_no_adapter_beats_itself(value: float, se: float) -> None:
    assert not decide(table(value, se), table(value, se), GATE).promote


@given(values, errors, values, errors)
def test_a_better_value_never_hurts(a: float, ea: float, b: float, eb: float) -> None:
    if decide(table(a, ea), table(b, eb), GATE).promote:
        assert decide(table(a / 2, ea), table(b, eb), GATE).promote


@given(values, values)
def test_direction_of_the_metric_turns_the_verdict(a: float, b: float) -> None:
    higher = Gate(steps=4, metric="attributes", limit=0)
    worse = decide(table(a, metric="attributes"), table(b, metric="attributes"), higher)
    assert worse.promote == (a > b)
    assert decide(table(a), table(b), GATE).promote == (a < b)


def test_the_margin_is_1_96_standard_errors_of_the_difference() -> None:
    champion = table(20.0, 3.0)
    # hypot(3, 4) = 5, and 1.96 * 5 = 9.8
    assert decide(table(10.19, 4.0), champion, GATE).promote
    assert not decide(table(10.21, 4.0), champion, GATE).promote


def test_the_limit_holds_against_any_champion() -> None:
    strict = Gate(steps=4, metric="fd_shapes:real", limit=5)
    decision = decide(table(6.0), table(50.0), strict)
    assert not decision.promote
    assert "above the limit of 5" in decision.reason


def test_another_evaluation_set_is_not_comparable() -> None:
    decision = decide(table(1.0), table(50.0, protocol="other"), GATE)
    assert not decision.promote
    assert decision.reason.startswith("not comparable")


def test_a_metric_that_is_not_in_the_table_is_named() -> None:
    with pytest.raises(UserError, match=r"no clip_score of lcm at 4 steps.*fd_shapes:real"):
        decide(table(1.0), None, Gate(steps=4, metric="clip_score", limit=0))


@pytest.mark.parametrize("what", ["truncated", "another key", "no protocol", "not a number"])
def test_a_damaged_table_is_one_line(tmp_path: Path, what: str) -> None:
    path, whole = tmp_path / "scores.json", table(1.0).model_dump_json()
    path.write_text(whole)
    assert read(path) == table(1.0)
    contents = {
        "truncated": whole[:-20],
        "another key": whole.replace('"sampler":', '"by":'),
        "no protocol": json.dumps(json.loads(whole) | {"protocol": {}}),
        "not a number": whole.replace('"value":1.0', '"value":NaN'),
    }
    path.write_text(contents[what])
    with pytest.raises(UserError, match=r"scores\.json: .*run `lcm-lora score`") as caught:
        read(path)
    assert "\n" not in str(caught.value)
