"""The rules of a decision as bars: the interval against the bound, the good side to the right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lcm_lora.evaluation.scores import MetricRecord, Table
from lcm_lora.gate.decision import Decision, Rule
from lcm_lora.report.numbers import gain, gain_interval, gain_words, shown
from lcm_lora.report.style import how_title
from lcm_lora.report.verdict import good_bound, nearest_rule

_ROOM = 0.12
"""Of a bar, left free at both ends."""


@dataclass(frozen=True, slots=True)
class Bar:
    """Where things stand along a bar, in percent from the left."""

    bound: float
    low: float
    high: float
    value: float
    champion: float | None
    """Where no difference is; None for a limit."""


@dataclass(frozen=True, slots=True)
class ShownRule:
    """A rule as the page shows it."""

    rule: Rule
    how: str
    """Of its cell, such as `4 steps`."""
    found: str
    """What came out, in words; empty where there is no champion to compare with."""
    asked: str
    """What was asked for."""
    bar: Bar | None
    """None where there is no champion to compare with."""
    is_nearest: bool
    """All hold, and this one by least."""


def shown_rules(table: Table, decision: Decision) -> list[ShownRule]:
    """Return the rules of a decision, those that fail first."""
    several = sum(rule.verdict == "passed" for rule in decision.rules) > 1
    nearest = nearest_rule(decision) if decision.promote and several else None
    rules = sorted(decision.rules, key=lambda rule: rule.verdict != "failed")
    return [_shown(table, rule, rule == nearest) for rule in rules]


def _shown(table: Table, rule: Rule, is_nearest: bool) -> ShownRule:
    metric = table.metric(rule.metric)
    cell = next(cell for cell in table.cells if cell.id == rule.cell)
    is_compared = rule.verdict != "no champion"
    return ShownRule(
        rule,
        how_title(cell),
        _found(metric, rule) if is_compared else "",
        _asked(metric, rule),
        _bar(rule) if is_compared else None,
        is_nearest,
    )


def _found(metric: MetricRecord, rule: Rule) -> str:
    if rule.kind == "limit":
        low, high = shown(metric, rule.low), shown(metric, rule.high)
        return f"{shown(metric, rule.value)} ({low} to {high})"
    return f"{gain_words(metric, rule.value)} ({gain_interval(metric, rule.low, rule.high)})"


def _asked(metric: MetricRecord, rule: Rule) -> str:
    if rule.kind == "limit":
        side = "at most" if metric.lower_is_better else "at least"
        return f"{side} {shown(metric, rule.bound)}"
    if rule.kind == "target":
        margin = gain_words(metric, -rule.bound if metric.lower_is_better else rule.bound)
        return "better than the champion" if rule.bound == 0 else f"more than {margin}"
    margin = gain_words(metric, rule.bound if metric.lower_is_better else -rule.bound)
    return "not worse than the champion" if rule.bound == 0 else f"less than {margin}"


def _bar(rule: Rule) -> Bar:
    value, low, high = gain(rule.lower_is_better, rule.value, rule.low, rule.high)
    bound, champion = good_bound(rule), None if rule.kind == "limit" else 0.0
    places = [value, low, high, bound, *([] if champion is None else [champion])]
    return Bar(
        _place(bound, places),
        _place(low, places),
        _place(high, places),
        _place(value, places),
        None if champion is None else _place(champion, places),
    )


def _place(value: float, among: Sequence[float]) -> float:
    least, most = min(among), max(among)
    if most == least:
        return 50.0
    share = _ROOM + (1 - 2 * _ROOM) * (value - least) / (most - least)
    return round(100 * share, 2)
