"""How the adapter does on a subject: beside the subject in many steps, and solvers of its cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lcm_lora.evaluation.scores import CellRecord, MetricRecord, Pair, Row, Table
from lcm_lora.mapping.subjects import Point, Tried
from lcm_lora.report.numbers import half_width
from lcm_lora.report.verdict import teacher_cell


@dataclass(frozen=True, slots=True)
class Other:
    """Another painter's cell, in one metric."""

    cell: CellRecord
    row: Row
    pair: Pair | None
    """The adapter minus it; None where they were not compared."""


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
    """The best of equal cost; None where none was compared."""

    @property
    def verdict(self) -> str:
        """Against the solver; `none` where there is none."""
        return self.solver.pair.verdict if self.solver and self.solver.pair else "none"


@dataclass(frozen=True, slots=True)
class Best:
    """The best point of a map, chosen by the pictures that it is judged on."""

    point: Point
    row: Row
    near: int
    """Points whose own intervals hold the best value, itself among them."""


def standing(tried: Tried, metric: MetricRecord, cell: CellRecord) -> Standing | None:
    """Return how a cell of the adapter stands in a metric; None where it was not measured."""
    row = tried.table.row(cell.id, metric.name)
    if row is None:
        return None
    solvers = list(_solvers(tried, metric, cell))
    best: Callable[..., Other | None] = min if metric.lower_is_better else max
    return Standing(
        tried,
        metric,
        cell,
        row,
        _against(tried.table, metric, cell, teacher_cell(tried.table)),
        best(solvers, key=lambda other: other.row.value, default=None),
    )


def standings(tried: Tried) -> list[Standing]:
    """Return how the adapter stands at the judged cell, in every metric that is shown."""
    found = (standing(tried, metric, tried.cell) for metric in tried.metrics)
    return [one for one in found if one]


def compared(tried: Tried) -> list[Pair]:
    """Return all comparisons with solvers in what is shown, in the order of metrics."""
    order = [metric.name for metric in tried.metrics]
    pairs = [p for p in tried.table.pairs if p.metric in order and _is_solver(tried, p.b)]
    return sorted(pairs, key=lambda pair: order.index(pair.metric))


def best_of(tried: Tried, metric: MetricRecord) -> Best | None:
    """Return the map's best point in a metric, of equal ones the first; None without a map."""
    found, sign = tried.rows(metric), 1 if metric.lower_is_better else -1
    if not found:
        return None
    point, row = min(found, key=lambda pair: sign * pair[1].value)
    gaps = [(sign * (other.value - row.value), other) for _, other in found]
    return Best(point, row, sum(gap <= half_width(tried.table, other) for gap, other in gaps))


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


def _is_solver(tried: Tried, cell: str) -> bool:
    return cell.rpartition("/")[0] in tried.solvers


def _against(
    table: Table, metric: MetricRecord, cell: CellRecord, other: CellRecord
) -> Other | None:
    row = table.row(other.id, metric.name)
    return Other(other, row, table.pair(metric.name, cell.id, other.id)) if row else None
