"""Features to the table of scores: every metric of every cell, and what the adapter compares to."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lcm_lora.champion_record import Champion
from lcm_lora.code import code_sha256
from lcm_lora.errors import UserError
from lcm_lora.evaluation.cells import Compared, Measured, MeasuredSet, read_measured
from lcm_lora.evaluation.metrics import AT_ONCE, Estimate, Instrument, applies, instrument_of
from lcm_lora.evaluation.names import metrics_of
from lcm_lora.evaluation.pairs import pairs_of
from lcm_lora.evaluation.scores import MetricRecord, Pair, Protocol, Row, Table
from lcm_lora.evaluation.simultaneous import half_width
from lcm_lora.files import new_folder, write_json
from lcm_lora.params.generate import REAL
from lcm_lora.params.score import Score
from lcm_lora.progress import Advance, progress
from lcm_lora.records import write_record

METRICS, CURVES = "metrics.json", "curves.csv"
"""Beside the table, for `dvc metrics diff` and `dvc plots`."""

_ROWS_A_DIMENSION = 10
"""From which on a Fréchet distance is a headline: below, most of it may be bias."""


def score(params: Score, compared: Compared, champion: Champion | None, out: Path) -> None:
    """Write the table of all features to the file `out`, and two views of it beside.

    Args:
        params: What was measured.
        compared: Who painted, and where their features are.
        champion: Who painted the champion's cells, if there is one.
        out: The table's file, in a folder of its own.

    Raises:
        UserError: As `read_measured` does; or a metric was not measured.
    """
    measured = read_measured(compared)
    metrics = _metrics(params, measured)
    rows: list[Row] = []
    pairs: list[Pair] = []
    with progress("score", len(metrics) * len(measured.sets), "metrics of image sets") as advance:
        for metric in metrics:
            instrument = instrument_of(metric, measured, params.seed)
            rows.extend(_rows(metric, instrument, measured, advance))
            pairs.extend(pairs_of(metric, instrument, measured, params.level))
    table = Table(
        protocol=_protocol(params, measured),
        champion=champion,
        metrics=metrics,
        cells=tuple(each.cell for each in measured.sets),
        rows=tuple(rows),
        pairs=tuple(pairs),
    )
    with new_folder(out.parent) as made:
        write_record(made / out.name, table)
        write_json(made / METRICS, nested(table))
        write_curves(made / CURVES, table)


def nested(table: Table) -> dict[str, dict[str, dict[str, float]]]:
    """Return values by painter, cell and metric; real pictures are a painter of one cell."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    cells = {cell.id: cell.painter for cell in table.cells}
    for row in table.rows:
        painter = cells[row.cell]
        name = row.cell.removeprefix(f"{painter}/")
        found.setdefault(painter, {}).setdefault(name, {})[row.metric] = row.value
    return found


def write_curves(path: Path, table: Table) -> None:
    """Write one line for each value, with the ends of its own interval."""
    cells, width = {cell.id: cell for cell in table.cells}, half_width(table.protocol.level)
    about = ("painter", "guidance", "seeds", "steps", "nfe")
    with path.open("w", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow([*about, "metric", "value", "low", "high"])
        for row in table.rows:
            half = width * row.se
            ends = (row.value, row.value - half, row.value + half)
            lines.writerow([*(getattr(cells[row.cell], name) for name in about), row.metric, *ends])


def _metrics(params: Score, measured: Measured) -> tuple[MetricRecord, ...]:
    """Return the table's metrics, the headline first.

    Raises:
        UserError: One is asked for that `features` did not measure.
    """
    several = any(len(measured.noises_of(cell)) > 1 for cell in measured.cells)
    metrics = metrics_of(params, several, measured.compared.looks)
    for metric in metrics:
        if metric.array not in measured.real.record.arrays:
            raise UserError(
                f"score: {metric.name} was not measured; run `{measured.compared.command(REAL)}` "
                "again, and so for every painter"
            )
    headline = _headline(metrics, measured)
    return (headline, *(metric for metric in metrics if metric is not headline))


def _headline(metrics: tuple[MetricRecord, ...], measured: Measured) -> MetricRecord:
    """Return the first network's Fréchet distance to real pictures, or its KID of few of them."""
    count, width = measured.reference.values(metrics[0].array).shape
    kind = "fd" if count >= _ROWS_A_DIMENSION * width else "kid"
    return next(metric for metric in metrics if (metric.kind, metric.reference) == (kind, "real"))


def _rows(
    metric: MetricRecord, instrument: Instrument, measured: Measured, advance: Advance
) -> Iterator[Row]:
    cells = [cell for cell in measured.sets if applies(metric, cell, measured)]
    advance(len(measured.sets) - len(cells))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for cell, found in zip(cells, pool.map(instrument.estimate, cells), strict=True):
            yield _row(metric, cell, found)
            advance(1, f"{metric.name}, {cell.id}")


def _row(metric: MetricRecord, cell: MeasuredSet, found: Estimate) -> Row:
    return Row(
        cell=cell.id,
        metric=metric.name,
        value=found.value,
        bias=found.bias,
        se=found.se,
        n=cell.count,
    )


def _protocol(params: Score, measured: Measured) -> Protocol:
    content: dict[str, Any] = {
        "n": measured.real.count,
        "arrays": {name: net.model_dump() for name, net in measured.real.record.arrays.items()},
        "captions_sha256": measured.real.record.captions_sha256,
        "real_sha256": measured.reference.record.images_sha256,
        "teacher_sha256": measured.teacher.record.images_sha256,
        "teacher": measured.teacher.id,
        "level": params.level,
        "seed": params.seed,
        "code_sha256": code_sha256(__name__),
        "looked_sha256": measured.real.record.how_sha256,
    }
    identity = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return Protocol.model_validate(content | {"sha256": identity})
