"""Say in words what the table says: what the adapter reaches, and whom it beats at equal cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lcm_lora.evaluation.resampling import Z
from lcm_lora.evaluation.selection import Selection
from lcm_lora.evaluation.table import ADAPTER, Pair, Row, Table
from lcm_lora.recipe import Recipe
from lcm_lora.report.style import NAMES, number, steps_title

Outcome = Literal["better", "level", "worse"]


@dataclass(frozen=True, slots=True)
class Standing:
    """The adapter at one step count, against the best classical solver of equal cost."""

    row: Row
    rival: Row | None
    """None where no solver was run at this cost."""
    outcome: Outcome
    """Against all solvers of equal cost: better than each, worse than one, or neither."""


def standings(table: Table) -> list[Standing]:
    """Return how the adapter stands at each of its step counts, by distance to real pictures."""
    metric = table.distance("real")
    found = []
    for row in table.select(sampler=ADAPTER, metric=metric, seeds=0):
        pairs = [p for p in table.paired if p.metric == metric and p.nfe == row.nfe]
        rivals = [rival for pair in pairs for rival in _rows_of(table, pair)]
        best = min(rivals, key=lambda rival: rival.value, default=None)
        found.append(Standing(row, best, _outcome(pairs)))
    return found


def recommended(table: Table) -> Row:
    """Return the adapter's fewest steps at which its distance is within error of its best."""
    rows = [standing.row for standing in standings(table)]
    best = min(rows, key=lambda row: row.value)
    return next(row for row in rows if row.value <= best.value + Z * best.se)


def teacher_row(table: Table) -> Row:
    """Return the teacher's distance to real pictures."""
    reference = table.protocol["reference"]["teacher"]
    return table.select(sampler="teacher", metric=table.distance("real"), **reference)[0]


def headline(table: Table) -> str:
    """Return one sentence: what the adapter reaches in how much, next to teacher and solvers."""
    row, teacher = recommended(table), teacher_row(table)
    text = (
        f"In {row.nfe} network evaluations a picture, {NAMES[ADAPTER]} comes to a Fréchet distance "
        f"of {interval(row)} from real pictures; the teacher takes {teacher.nfe} for "
        f"{interval(teacher)}"
    )
    rival = next(s.rival for s in standings(table) if s.row == row)
    if rival is None:
        return f"{text}."
    return (
        f"{text}, and the best classical solver at the adapter's cost, "
        f"{'guided' if rival.guidance > 1 else 'plain'} {NAMES[rival.sampler]} at "
        f"{steps_title(rival.steps)}, "
        f"comes to {interval(rival)}."
    )


def summary(table: Table) -> str:
    """Return one sentence: at which step counts the adapter beats every solver of equal cost."""
    compared = [s for s in standings(table) if s.rival is not None]
    texts = []
    for outcome, words in (
        ("better", "better than every classical solver of equal cost"),
        ("level", "not told apart from the best of them"),
        ("worse", "worse than at least one of them"),
    ):
        steps = [str(s.row.steps) for s in compared if s.outcome == outcome]
        if steps:
            plural = "step" if steps == ["1"] else "steps"
            texts.append(f"{words} at {_listed(steps)} {plural}")
    if not texts:
        return "No classical solver was run at the adapter's cost."
    return f"By this distance it is {'; '.join(texts)}."


def choice(selection: Selection, recipe: Recipe) -> str:
    """Return when in its training the adapter was taken, and by what."""
    taken = f"step {selection.chosen:,} of {recipe.params['steps']:,}"
    if len(selection.rows) == 1:
        return f"{taken}, the only candidate"
    return (
        f"{taken}, best of {len(selection.rows)} candidates by {selection.metric} at "
        f"{steps_title(selection.steps)} on {selection.prompts} captions of their own"
    )


def interval(row: Row) -> str:
    """Return a value with half the width of its 95 % interval."""
    return f"{number(row.value)}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{number(Z * row.se)}"


def outcome_of(pair: Pair) -> Outcome:
    """Return how the adapter does in one paired difference."""
    if pair.better:
        return "better"
    return "level" if pair.low <= 0 <= pair.high else "worse"


def _outcome(pairs: list[Pair]) -> Outcome:
    outcomes = {outcome_of(pair) for pair in pairs}
    if "worse" in outcomes:
        return "worse"
    return "better" if outcomes == {"better"} else "level"


def _rows_of(table: Table, pair: Pair) -> list[Row]:
    return table.select(metric=pair.metric, seeds=0, **pair.b.model_dump())


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
