"""Tables of scores as MLflow's metrics: a curve each, by the number of sampling steps."""

from __future__ import annotations

import re
import time

from mlflow.entities import Metric

from lcm_lora.evaluation.scores import CellRecord, Table
from lcm_lora.evaluation.selection import Selection
from lcm_lora.params.transfer import is_mix


def selection_metrics(selection: Selection) -> list[Metric]:
    """Return how the candidates came out as a metric `select/METRIC` by step of training."""
    now, name = int(time.time() * 1000), _taken(f"select/{selection.metric}")
    return [Metric(name, row.value, now, row.step) for row in selection.rows]


def score_metrics(table: Table) -> list[Metric]:
    """Return the table as metrics `METRIC/PAINTER` whose step is the number of sampling steps.

    A painter that is measured at several guidances has one curve each.
    """
    now, cells = int(time.time() * 1000), {cell.id: cell for cell in table.cells}
    return [
        Metric(
            _taken(f"{row.metric}/{cell.painter}{_way(table, cell)}"), row.value, now, cell.steps
        )
        for row in table.rows
        for cell in (cells[row.cell],)
    ]


def transfer_metrics(subject: str, table: Table) -> list[Metric]:
    """Return a subject's table as metrics `transfer/SUBJECT/METRIC/PAINTER`, without its map.

    That has a cell for each pair of weights, and is in the table and the page.
    """
    mixed = {cell.id for cell in table.cells if is_mix(cell.painter)}
    alone = table.model_copy(update={"rows": tuple(r for r in table.rows if r.cell not in mixed)})
    return [
        Metric(f"transfer/{subject}/{one.key}", one.value, one.timestamp, one.step)
        for one in score_metrics(alone)
    ]


def difference_metrics(table: Table) -> list[Metric]:
    """Return the adapter minus the champion as metrics `METRIC/vs_champion` by sampling steps."""
    now, cells = int(time.time() * 1000), {cell.id: cell for cell in table.cells}
    return [
        Metric(
            _taken(f"{pair.metric}/vs_champion{_way(table, cell)}"),
            pair.difference,
            now,
            cell.steps,
        )
        for pair in table.pairs
        if pair.against == "champion"
        for cell in (cells[pair.a],)
    ]


def _way(table: Table, cell: CellRecord) -> str:
    """Return what tells a curve from the painter's others."""
    guidances = {other.guidance for other in table.cells_of(cell.painter)}
    guidance = f"_guidance-{cell.guidance:g}" if len(guidances) > 1 else ""
    return f"{guidance}_seeds-{cell.seeds}" if cell.seeds else guidance


def _taken(name: str) -> str:
    """Return a metric's name as MLflow takes it: on Windows it refuses the colon of kid:real."""
    return re.sub(r"[^\w\-. /]", ".", name)
