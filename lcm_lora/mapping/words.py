"""What a reader should know first: whether the adapter transfers, and where it loses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from lcm_lora.evaluation.scores import CellRecord, MetricRecord, Pair, Verdict
from lcm_lora.mapping.standing import Standing, compared, standing, standings, turned
from lcm_lora.mapping.subjects import Tried
from lcm_lora.report.numbers import gain, gain_interval, half_width


@dataclass(frozen=True, slots=True)
class Bar:
    """A standing in small: places from 0, bad, to 100, good."""

    low: float
    value: float
    high: float
    teacher: float | None
    solver: float | None


@dataclass(frozen=True, slots=True)
class Loss:
    """A solver's cell that is better than the adapter's, and in what."""

    tried: Tried
    cell: CellRecord
    solver: CellRecord
    said: tuple[str, ...]


def judged(every: Sequence[Tried]) -> list[Standing]:
    """Return each subject's standing in the metric that tells most, where it was measured."""
    found = (standing(tried, tried.leading, tried.cell) for tried in every)
    return [one for one in found if one]


def elsewhere(every: Sequence[Tried]) -> list[Tried]:
    """Return all subjects but those on which the adapter is at home."""
    return [tried for tried in every if not tried.is_control]


def heading(every: Sequence[Standing]) -> str:
    """Return in a few words to how many subjects the adapter transfers.

    It does where it is better than every solver of equal cost.
    """
    asked = [one for one in every if one.verdict != "none"]
    won, level = (sum(one.verdict == v for one in asked) for v in ("better", "level"))
    if not asked:
        return "Compared with no solver"
    if level == len(asked):
        return "Not told apart from solvers"
    if len(asked) == 1:
        return f"It {'transfers' if won else 'does not transfer'} to {asked[0].tried.name}"
    count = {0: f"none of {len(asked)}", len(asked): f"all {len(asked)}"}
    subjects = f"{count.get(won, f'{won} of {len(asked)}')} subjects"
    if level:
        return f"Transfer is shown for {subjects}; {level} not told apart"
    return f"It transfers to {subjects}"


def mood(every: Sequence[Standing]) -> str:
    """Return `yes`, `no` or `some`: whether it transfers to all, is beaten, or neither."""
    found = {one.verdict for one in every} - {"none"}
    return "yes" if found == {"better"} else "no" if found == {"worse"} else "some"


def counts(every: Sequence[Tried]) -> dict[Verdict, int]:
    """Return how many comparisons with solvers came out which way."""
    found = [pair.verdict for tried in every for pair in compared(tried)]
    return {
        "better": found.count("better"),
        "level": found.count("level"),
        "worse": found.count("worse"),
    }


def by_verdict(tried: Tried) -> list[tuple[str, list[str]]]:
    """Return the metrics but the first, by how the adapter does against all solvers."""
    others = [one for one in standings(tried) if one.metric != tried.leading]
    found = {
        verdict: [one.metric.title for one in others if one.verdict == verdict]
        for verdict in ("better", "level", "worse")
    }
    return [(verdict, titles) for verdict, titles in found.items() if titles]


def apart(tried: Tried, metric: MetricRecord) -> str:
    """Return how many points of the map are better or worse than the weights as they are.

    Nothing where they were not compared.
    """
    found = Counter(turned(tried, metric).values())
    if not found:
        return ""
    if found["level"] == found.total():
        return "No point is told apart from weights as they are"
    better, worse = (f"{found[verdict]} {verdict}" for verdict in ("better", "worse"))
    open_ = f"{found['level']} not told apart"
    return f"Beside weights as they are, {better} (▲), {worse} (▼) and {open_}"


def behind(every: Sequence[Standing]) -> list[str]:
    """Return the names of subjects that are better themselves, in many steps."""
    return [one.tried.name for one in every if one.teacher and one.teacher.verdict == "worse"]


def losses(every: Sequence[Tried]) -> list[Loss]:
    """Return where solvers of equal cost are better, by subject, cell and solver."""
    return [loss for tried in every for loss in _losses(tried)]


def bar(one: Standing) -> Bar:
    """Return where a value lies between the best and the worst beside it; shares, of all."""
    lower = one.metric.lower_is_better
    half = half_width(one.tried.table, one.row)
    value, low, high = gain(lower, one.row.value, one.row.value - half, one.row.value + half)
    others = [
        None if other is None else gain(lower, other.row.value, 0, 0)[0]
        for other in (one.teacher, one.solver)
    ]
    ends = [low, high, *(other for other in others if other is not None)]
    first, last = (0.0, 1.0) if one.metric.unit == "share" else (min(ends), max(ends))
    # Room at both ends, so that what lies there is seen whole.
    width = max(last - first, 1e-12)

    def place(at: float) -> float:
        return round(4 + 92 * min(1.0, max(0.0, (at - first) / width)), 2)

    teacher, solver = (None if other is None else place(other) for other in others)
    return Bar(place(low), place(value), place(high), teacher, solver)


def _losses(tried: Tried) -> list[Loss]:
    cells = {cell.id: cell for cell in tried.table.cells}
    lost = [pair for pair in compared(tried) if pair.verdict == "worse"]
    lost.sort(key=lambda pair: (cells[pair.a].nfe, pair.a, pair.b))
    return [
        Loss(tried, cells[a], cells[b], tuple(_said(tried, pair) for pair in pairs))
        for (a, b), pairs in groupby(lost, key=lambda pair: (pair.a, pair.b))
    ]


def _said(tried: Tried, pair: Pair) -> str:
    metric = tried.table.metric(pair.metric)
    return f"{metric.title} {gain_interval(metric, pair.low, pair.high)}"
