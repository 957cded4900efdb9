"""What a reader should know first: how the adapter stands, in what, at which cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lcm_lora.evaluation.scores import CellRecord, MetricRecord, Pair, Row, Table
from lcm_lora.evaluation.selection import Selection
from lcm_lora.gate.decision import Decision, Rule
from lcm_lora.params.generate import TEACHER
from lcm_lora.recipe import Recipe
from lcm_lora.report.numbers import gain, half_width, spread
from lcm_lora.report.style import how_title, painter_title, steps_title


@dataclass(frozen=True, slots=True)
class Gain:
    """The adapter against the champion in one metric, at one cell."""

    cell: CellRecord
    metric: MetricRecord
    difference: float
    """Adapter minus champion."""
    low: float
    high: float
    is_rules: bool
    """The interval is a rule's, of this cell; else of all step counts at once."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One metric of one of the adapter's cells, beside the champion's and the best rival's."""

    cell: CellRecord
    row: Row
    champion: Row | None
    pair: Pair | None
    """Against the champion."""
    rival: Row | None
    """The best painter of equal cost; None where there is none."""


def judged_metrics(table: Table, decision: Decision) -> list[MetricRecord]:
    """Return the headline and the metrics of the gate's rules, in the table's order."""
    names = {table.headline.name, *(rule.metric for rule in decision.rules)}
    return [metric for metric in table.metrics if metric.name in names]


def drawn_metrics(table: Table, decision: Decision) -> list[MetricRecord]:
    """Return the metrics of the figures: what is judged, the headline's kind, means of pictures."""
    judged = {metric.name for metric in judged_metrics(table, decision)}
    return [
        metric
        for metric in table.metrics
        if metric.name in judged or metric.kind in {table.headline.kind, "mean"}
    ]


def judged_cell(table: Table, decision: Decision) -> CellRecord:
    """Return the adapter's cell that the decision is about: that of the rule that tells most."""
    if rule := telling_rule(decision):
        return next(cell for cell in table.cells if cell.id == rule.cell)
    return recommended(table)


def telling_rule(decision: Decision) -> Rule | None:
    """Return the first rule that fails; else the first target, else the first rule."""
    ranks = {"failed": 0}
    kinds = {"target": 1}
    return min(
        decision.rules,
        key=lambda rule: (ranks.get(rule.verdict, 1), kinds.get(rule.kind, 2)),
        default=None,
    )


def nearest_rule(decision: Decision) -> Rule | None:
    """Return the rule that holds by least, counted in its interval: it would stop first."""
    held = [rule for rule in decision.rules if rule.verdict == "passed"]
    return min(held, key=_slack, default=None)


def best_gain(table: Table, decision: Decision) -> Gain | None:
    """Return by how much the adapter beats the champion, or fails to, in what the gate asks for.

    That is the first target at the judged cell; without targets, the headline.
    """
    cell = judged_cell(table, decision)
    for rule in decision.rules:
        if (rule.kind, rule.cell) == ("target", cell.id) and rule.verdict != "no champion":
            return Gain(cell, table.metric(rule.metric), rule.value, rule.low, rule.high, True)
    other = table.counterpart(cell)
    pair = table.pair(table.headline.name, cell.id, other.id) if other else None
    if pair is None:
        return None
    return Gain(cell, table.headline, pair.difference, pair.low, pair.high, False)


def standings(table: Table, metric: MetricRecord) -> list[Standing]:
    """Return how the adapter stands in a metric at each of its cells of the first noises."""
    return [
        _standing(table, cell, row)
        for cell in table.adapter
        if (row := table.row(cell.id, metric.name)) is not None
    ]


def recommended(table: Table) -> CellRecord:
    """Return the adapter's cheapest cell whose headline is within error of its best."""
    found = standings(table, table.headline)
    sign = 1 if table.headline.lower_is_better else -1
    best = min(found, key=lambda standing: sign * standing.row.value).row
    near = [s for s in found if sign * (s.row.value - best.value) <= half_width(table, best)]
    return min(near, key=lambda standing: (standing.cell.nfe, standing.cell.guidance)).cell


def teacher_cell(table: Table) -> CellRecord:
    """Return the teacher's cell of the first noises and of most evaluations."""
    return max(table.cells_of(TEACHER, seeds=0), key=lambda cell: cell.nfe)


def headline(table: Table) -> str:
    """Return one sentence: what the adapter reaches in how much, next to teacher and rivals."""
    cell, teacher = recommended(table), teacher_cell(table)
    standing = next(s for s in standings(table, table.headline) if s.cell == cell)
    reached = table.row(teacher.id, table.headline.name)
    text = (
        f"In {evaluations(cell.nfe)} a picture, the adapter comes to {spread(table, standing.row)} "
        f"({table.headline.title.lower()})"
    )
    if reached is not None:
        text += f"; the teacher takes {teacher.nfe} for {spread(table, reached)}"
    if standing.rival is None:
        return f"{text}."
    rival = _cell(table, standing.rival)
    return (
        f"{text}, and the best other painter of the adapter's cost, "
        f"{painter_title(rival.painter)} at {how_title(rival)}, "
        f"comes to {spread(table, standing.rival)}."
    )


def choice(selection: Selection, recipe: Recipe) -> str:
    """Return when in its training the adapter was taken, and by what."""
    taken = f"step {selection.chosen:,} of {recipe.params['steps']:,}"
    if len(selection.rows) == 1:
        return f"{taken}, the only candidate"
    return (
        f"{taken}, best of {len(selection.rows)} candidates by {selection.metric} at "
        f"{steps_title(selection.steps)} on {selection.prompts} captions of their own"
    )


def evaluations(nfe: int) -> str:
    """Return a number of network evaluations in words."""
    return f"{nfe} network evaluation{'s' if nfe > 1 else ''}"


def _standing(table: Table, cell: CellRecord, row: Row) -> Standing:
    metric = table.metric(row.metric)
    other = table.counterpart(cell)
    rivals = [
        pair
        for pair in table.pairs
        if (pair.metric, pair.a, pair.against) == (metric.name, cell.id, "rival")
        and _of_cost(table, pair.b, cell.nfe)
    ]
    rows = [found for pair in rivals if (found := table.row(pair.b, metric.name))]
    best: Callable[..., Row | None] = min if metric.lower_is_better else max
    return Standing(
        cell,
        row,
        table.row(other.id, metric.name) if other else None,
        table.pair(metric.name, cell.id, other.id) if other else None,
        best(rows, key=lambda found: found.value, default=None),
    )


def _of_cost(table: Table, cell: str, nfe: int) -> bool:
    return any((found.id, found.nfe) == (cell, nfe) for found in table.cells)


def _cell(table: Table, row: Row) -> CellRecord:
    return next(cell for cell in table.cells if cell.id == row.cell)


def _slack(rule: Rule) -> float:
    """Return how many half intervals a rule is from failing: a limit asks for its value alone."""
    value, low, high = gain(rule.lower_is_better, rule.value, rule.low, rule.high)
    edge = value if rule.kind == "limit" else low
    return (edge - good_bound(rule)) / max((high - low) / 2, 1e-12)


def good_bound(rule: Rule) -> float:
    """Return a rule's bound on the scale on which more is better; see `gain`."""
    if rule.kind == "limit":
        return -rule.bound if rule.lower_is_better else rule.bound
    return rule.bound if rule.kind == "target" else -rule.bound
