"""Decide whether an adapter should become champion: rules over one table of scores, nothing else.

A limit is absolute, and judges the value as it stands. A target must be better than the champion's
by more than a margin, a guard must not be worse by more than one, both as far as the interval of
the paired difference says. All rules of all step counts must hold. A conjunction of tests, each at
its own level, errs no more often than one of them (Berger 1982, intersection-union tests), so more
rules never make a promotion by chance likelier; and a rule's interval is that of its own difference
alone, so that a cell which is painted only to be looked at changes no decision.
"""

from __future__ import annotations

from collections.abc import Iterator

from lcm_lora.errors import UserError
from lcm_lora.evaluation.scores import CellRecord, MetricRecord, Pair, Table
from lcm_lora.evaluation.simultaneous import half_width
from lcm_lora.gate.decision import Decision, Rule, RuleKind, RuleVerdict
from lcm_lora.gate.words import limit_words, pair_words, passed_words
from lcm_lora.params.generate import ADAPTER
from lcm_lora.params.registry import Gate

_MEND = "mend registry.gate, or run `lcm-lora score` again"


def decide(table: Table, gates: tuple[Gate, ...], adapter_sha256: str) -> Decision:
    """Judge the adapter of a table, by itself and against the table's champion.

    Args:
        table: Scores of the adapter and of the champion, if there is one.
        gates: The rules, by step count.
        adapter_sha256: Of the adapter's weights; the champion's own are not promoted again.

    Raises:
        UserError: The table does not hold what a rule is about.
    """
    rules = tuple(rule for gate in gates for rule in _rules(table, gate))
    failed = next((rule for rule in rules if rule.verdict == "failed"), None)
    champion = table.champion
    if champion is not None and champion.weights_sha256 == adapter_sha256:
        promote, reason = False, f"it is the champion already, {champion.version}"
    elif failed is not None:
        promote, reason = False, failed.words
    else:
        promote, reason = True, passed_words(rules, champion)
    return Decision(
        promote=promote,
        reason=reason,
        champion=champion,
        adapter_sha256=adapter_sha256,
        protocol_sha256=table.protocol.sha256,
        rules=rules,
    )


def _rules(table: Table, gate: Gate) -> Iterator[Rule]:
    same = {"steps": gate.steps, "guidance": gate.guidance, "seeds": 0}
    cell = next(iter(table.cells_of(ADAPTER, **same)), None)
    if cell is None:
        raise UserError(
            f"registry.gate: the table has no adapter at {_place(gate)}; take a cell of "
            "generate.adapter.cells"
        )
    for metric, limit in gate.limits.items():
        yield _limit(table, cell, _metric(table, metric), limit)
    for metric, margin in gate.target.items():
        yield _comparison(table, cell, "target", _metric(table, metric), margin)
    for metric, margin in gate.guards.items():
        yield _comparison(table, cell, "guard", _metric(table, metric), margin)


def _limit(table: Table, cell: CellRecord, metric: MetricRecord, limit: float) -> Rule:
    row = table.row(cell.id, metric.name)
    if row is None:
        raise UserError(f"registry.gate: the table holds no {metric.name} of {cell.id}; {_MEND}")
    passes = row.value <= limit if metric.lower_is_better else row.value >= limit
    half = half_width(table.protocol.level) * row.se
    return Rule(
        kind="limit",
        cell=cell.id,
        metric=metric.name,
        title=metric.title,
        lower_is_better=metric.lower_is_better,
        bound=limit,
        value=row.value,
        low=row.value - half,
        high=row.value + half,
        verdict="passed" if passes else "failed",
        words=limit_words(metric, cell, row.value, limit),
    )


def _comparison(
    table: Table, cell: CellRecord, kind: RuleKind, metric: MetricRecord, margin: float
) -> Rule:
    value = low = high = 0.0
    verdict: RuleVerdict = "no champion"
    words = "nobody was champion to compare with"
    if table.champion is not None:
        pair = _pair(table, cell, metric)
        half = half_width(table.protocol.level) * pair.se
        value, low, high = pair.difference, pair.difference - half, pair.difference + half
        # From what decides nothing a guard cannot conclude either that nothing is worse.
        is_held = pair.is_decisive and holds(kind, metric.lower_is_better, low, high, margin)
        verdict = "passed" if is_held else "failed"
        words = pair_words(kind, metric, cell, pair, (low, high), margin)
    return Rule(
        kind=kind,
        cell=cell.id,
        metric=metric.name,
        title=metric.title,
        lower_is_better=metric.lower_is_better,
        bound=margin,
        value=value,
        low=low,
        high=high,
        verdict=verdict,
        words=words,
    )


def holds(kind: RuleKind, lower_is_better: bool, low: float, high: float, margin: float) -> bool:
    """Tell whether a comparison's interval, of adapter minus champion, satisfies its rule.

    Args:
        kind: `target`: the whole interval is better by more than the margin. `guard`: no part of it
            is worse by more than the margin.
        lower_is_better: Which way is good.
        low: Lower end of the interval.
        high: Upper end.
        margin: At least 0, in the metric's own unit.
    """
    least_gain = -high if lower_is_better else low
    return least_gain > margin if kind == "target" else least_gain >= -margin


def _pair(table: Table, cell: CellRecord, metric: MetricRecord) -> Pair:
    rival = table.counterpart(cell)
    pair = table.pair(metric.name, cell.id, rival.id) if rival else None
    if pair is None:
        raise UserError(
            f"registry.gate: the table compares no {metric.name} of {cell.id} with the champion's; "
            f"{_MEND}"
        )
    return pair


def _metric(table: Table, name: str) -> MetricRecord:
    found = next((metric for metric in table.metrics if metric.name == name), None)
    if found is None:
        known = ", ".join(metric.name for metric in table.metrics)
        raise UserError(f"registry.gate: the table holds no {name}; take one of: {known}")
    return found


def _place(gate: Gate) -> str:
    return f"{gate.steps} steps, guidance {gate.guidance:g}"
