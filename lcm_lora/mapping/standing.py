"""How the adapter does on a subject: beside the subject in many steps, and solvers of its cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lcm_lora.evaluation.scores import CellRecord, MetricRecord, Pair, Row, Table, Verdict
from lcm_lora.mapping.subjects import Point, Tried
from lcm_lora.params.transfer import WHOLE, Mix
from lcm_lora.report.verdict import teacher_cell


@dataclass(frozen=True, slots=True)
class Other:
    """Another painter's cell, in one metric."""

    cell: CellRecord
    row: Row
    pair: Pair | None
    """The adapter minus it; None where they were not compared."""

    @property
    def verdict(self) -> str:
        """How the adapter does against it; `none` where that was not, or cannot be, compared."""
        return self.pair.verdict if self.pair and self.pair.is_decisive else "none"


@dataclass(frozen=True, slots=True)
class Standing:
    """One metric of one of the adapter's cells on a subject."""

    tried: Tried
    metric: MetricRecord
    cell: CellRecord
    row: Row
    teacher: Other | None
    """The subject itself in many steps."""
    solver: Other | None
    """The strongest of equal cost; None where there is none."""

    @property
    def verdict(self) -> str:
        """Against all solvers of equal cost, whose intervals hold at once; `none` without any."""
        return self.solver.verdict if self.solver else "none"


@dataclass(frozen=True, slots=True)
class Best:
    """The best point of a map, chosen by the pictures that it is judged on."""

    point: Point
    row: Row


def standing(tried: Tried, metric: MetricRecord, cell: CellRecord) -> Standing | None:
    """Return how a cell of the adapter stands in a metric; None where it was not measured."""
    row = tried.table.row(cell.id, metric.name)
    if row is None:
        return None
    return Standing(
        tried,
        metric,
        cell,
        row,
        _against(tried.table, metric, cell, teacher_cell(tried.table)),
        _strongest(metric, _solvers(tried, metric, cell)),
    )


def standings(tried: Tried) -> list[Standing]:
    """Return how the adapter stands at the judged cell, in every metric that is shown."""
    found = (standing(tried, metric, tried.cell) for metric in tried.metrics)
    return [one for one in found if one]


def compared(tried: Tried) -> list[Pair]:
    """Return all comparisons with solvers that decide, in the order of metrics."""
    order = [metric.name for metric in tried.metrics]
    able = (p for p in tried.table.pairs if p.is_decisive and p.metric in order)
    pairs = [pair for pair in able if pair.against == "rival" and _is_solver(tried, pair.b)]
    return sorted(pairs, key=lambda pair: order.index(pair.metric))


def best_of(tried: Tried, metric: MetricRecord) -> Best | None:
    """Return the map's best point in a metric; None without a map.

    Of equal ones that of the weights as they are, else the first.
    """
    found, sign = tried.rows(metric), 1 if metric.lower_is_better else -1
    if not found:
        return None
    return Best(*min(found, key=lambda pair: (sign * pair[1].value, pair[0].mix != WHOLE)))


def turned(tried: Tried, metric: MetricRecord) -> dict[Mix, Verdict]:
    """Return how each other point of the map compares with the weights as they are, where it was.

    The intervals of a metric hold for all points at once.
    """
    whole = next((point.cell.id for point in tried.points if point.mix == WHOLE), None)
    mixes = {point.cell.id: point.mix for point in tried.points}
    pairs = {p.a: p for p in tried.table.pairs if (p.metric, p.against) == (metric.name, "map")}
    return {
        mixes[name]: pair.verdict
        for name, pair in pairs.items()
        if name in mixes and pair.b == whole and pair.is_decisive
    }


def by_cost(tried: Tried) -> list[tuple[CellRecord | None, list[CellRecord]]]:
    """Return each of the adapter's cells with the solvers' cells of its cost, the cheapest first.

    Solvers' cells of other costs come last, beside none of the adapter's.
    """
    own = sorted(tried.table.adapter, key=lambda cell: (cell.nfe, cell.guidance))
    cells = [cell for name in tried.solvers for cell in tried.table.cells_of(name, seeds=0)]
    met = [(cell, [other for other in cells if other.nfe == cell.nfe]) for cell in own]
    rest = [other for other in cells if all(other.nfe != cell.nfe for cell in own)]
    return [*met, *([(None, sorted(rest, key=lambda cell: cell.nfe))] if rest else [])]


def _solvers(tried: Tried, metric: MetricRecord, cell: CellRecord) -> Iterator[Other]:
    for name in tried.solvers:
        for other in tried.table.cells_of(name, seeds=0, nfe=cell.nfe):
            if found := _against(tried.table, metric, cell, other):
                yield found


def _strongest(metric: MetricRecord, solvers: Iterator[Other]) -> Other | None:
    """Return the solver against which the adapter does worst; of several, the best by its value."""
    order, sign = ("worse", "level", "better", "none"), 1 if metric.lower_is_better else -1
    return min(
        solvers,
        key=lambda other: (order.index(other.verdict), sign * other.row.value),
        default=None,
    )


def _is_solver(tried: Tried, cell: str) -> bool:
    return cell.rpartition("/")[0] in tried.solvers


def _against(
    table: Table, metric: MetricRecord, cell: CellRecord, other: CellRecord
) -> Other | None:
    row = table.row(other.id, metric.name)
    return Other(other, row, table.pair(metric.name, cell.id, other.id)) if row else None
