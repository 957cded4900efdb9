"""Say in one line what a rule asked for and what came out, and why an adapter won."""

from __future__ import annotations

from collections.abc import Sequence

from lcm_lora.champion_record import Champion
from lcm_lora.evaluation.scores import CellRecord, MetricRecord, Pair
from lcm_lora.gate.decision import Rule, RuleKind

_NEEDED = ", needed "


def limit_words(metric: MetricRecord, cell: CellRecord, value: float, limit: float) -> str:
    """Return how a value stands to its limit."""
    side = "at most" if metric.lower_is_better else "at least"
    return (
        f"{_subject(metric, cell)} is {_amount(metric, value)}{_NEEDED}{side} "
        f"{_amount(metric, limit)}"
    )


def pair_words(
    kind: RuleKind,
    metric: MetricRecord,
    cell: CellRecord,
    pair: Pair,
    ends: tuple[float, float],
    margin: float,
) -> str:
    """Return how a difference from the champion, with its interval, stands to its margin."""
    gain = pair.difference
    if metric.lower_is_better:
        gain, ends = -gain, (-ends[1], -ends[0])
    is_worse = gain < 0
    if is_worse:
        ends = (-ends[1], -ends[0])
    span = " to ".join(_amount(metric, end) for end in ends)
    asked = (
        f"{_NEEDED}better by more than {_amount(metric, margin)}"
        if kind == "target"
        else f", allowed worse by {_amount(metric, margin)}"
    )
    told = "as far as the interval says"
    surely = told if pair.is_decisive else "but of so few pictures it does not tell"
    return (
        f"{_subject(metric, cell)} is {'worse' if is_worse else 'better'} than the champion's by "
        f"{_amount(metric, abs(gain))} ({span}){asked}, {surely}"
    )


def passed_words(rules: Sequence[Rule], champion: Champion | None) -> str:
    """Return why an adapter is promoted: nobody was there, or what it is better at."""
    if champion is None:
        limits = "within all limits, and " if any(rule.kind == "limit" for rule in rules) else ""
        return f"{limits}nobody was champion"
    targets = [rule.words.partition(_NEEDED)[0] for rule in rules if rule.kind == "target"]
    if not targets:
        return f"in nothing that is guarded worse than {champion.version}"
    return f"better than {champion.version}: {'; '.join(targets)}"


def _subject(metric: MetricRecord, cell: CellRecord) -> str:
    steps = "1 step" if cell.steps == 1 else f"{cell.steps} steps"
    guided = f", guidance {cell.guidance:g}" if cell.guidance > 1 else ""
    return f"{metric.title} at {steps}{guided}"


def _amount(metric: MetricRecord, value: float) -> str:
    return f"{100 * value:.3g} %" if metric.unit == "share" else f"{value:.3g}"
