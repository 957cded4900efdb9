"""The whole table as tidy rows, one number each, for the page, the terminal and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from lcm_lora.evaluation.scores import CellRecord, Row, Table
from lcm_lora.painting.latencies import Latency
from lcm_lora.report.numbers import half_width

COLUMNS = (
    "cell",
    "painter",
    "sampler",
    "steps",
    "guidance",
    "seeds",
    "nfe",
    "metric",
    "value",
    "half_interval",
    "se",
    "bias",
    "n",
)


def tidy(table: Table) -> Iterator[tuple[CellRecord, Row]]:
    """Yield every number of a table with its cell, in the order of cells and metrics."""
    order = {cell.id: i for i, cell in enumerate(table.cells)}
    metrics = {metric.name: i for i, metric in enumerate(table.metrics)}
    for row in sorted(table.rows, key=lambda row: (order[row.cell], metrics[row.metric])):
        yield table.cells[order[row.cell]], row


def as_csv(table: Table, latency: Latency | None = None) -> str:
    """Return every number as CSV; with latencies, milliseconds a picture as the last column."""
    columns = [*COLUMNS, *(["ms"] if latency else [])]
    return csv_of(columns, lines_of(table, latency))


def lines_of(table: Table, latency: Latency | None = None) -> Iterator[dict[str, Any]]:
    """Yield every number of a table with all that is known of it, by the names of columns."""
    for cell, row in tidy(table):
        line: dict[str, Any] = row.model_dump() | cell.model_dump() | {"cell": cell.id}
        line["half_interval"] = half_width(table, row)
        if latency:
            line["ms"] = latency.of(cell.steps, cell.guidance) if cell.steps else None
        yield line


def csv_of(columns: Sequence[str], lines: Iterable[dict[str, Any]]) -> str:
    """Return lines as CSV, of these columns alone."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
