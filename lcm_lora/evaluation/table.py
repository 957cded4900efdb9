"""The tidy table: one row for each image set and metric, and the paired differences.

Legend: N pictures, R resamples.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lcm_lora.evaluation.cells import Measured, MeasuredSet, read_measured
from lcm_lora.evaluation.metrics import References, measure
from lcm_lora.evaluation.names import distance_name, is_lower_better
from lcm_lora.evaluation.resampling import draw_counts, paired_difference, standard_error
from lcm_lora.params.score import Score
from lcm_lora.progress import progress
from lcm_lora.records import Open, Record, read_record, write_record

Array = NDArray[np.float64]

ADAPTER = "lcm"
SOLVERS = ("ddim", "dpmpp", "unipc")


class Row(Record):
    """One metric of one image set; `ms` is the time of a picture, where it was measured."""

    sampler: str
    steps: int
    guidance: float
    seeds: int
    nfe: int
    metric: str
    value: float
    se: float
    n: int
    network: str
    ms: float | None


class Side(Record):
    """One side of a paired difference."""

    sampler: str
    steps: int
    guidance: float


class Pair(Record):
    """The adapter minus a classical solver of equal cost, with its 95 % interval."""

    metric: str
    nfe: int
    a: Side
    b: Side
    difference: float
    low: float
    high: float
    better: bool
    """The whole interval lies on the adapter's good side."""


class Table(Record):
    """The table of scores: all that was measured, and how."""

    protocol: Open
    rows: tuple[Row, ...]
    paired: tuple[Pair, ...]

    def select(self, **wanted: object) -> list[Row]:
        """Return the rows whose fields have the values wanted, in the table's order."""
        return [row for row in self.rows if all(getattr(row, k) == v for k, v in wanted.items())]

    def distance(self, reference: str) -> str:
        """Return the name of the Fréchet distance to `real` or `teacher`."""
        return f"{distance_name('fd', self.protocol['features']['name'])}:{reference}"


def score(params: Score, features: Path, out: Path) -> None:
    """Write the table of all features in the folder `features` to the file `out`.

    Raises:
        UserError: As `read_measured` does.
    """
    measured = read_measured(features)
    counts = draw_counts(len(measured.real.features), params.resamples, params.seed)
    references = References.of(measured)
    rows: list[Row] = []
    resampled: list[tuple[Row, Array]] = []
    with progress("score", len(measured.sets), "image sets") as advance:
        for cell in measured.sets:
            for metric, value, spread in measure(cell, references, counts):
                error = spread if isinstance(spread, float) else standard_error(spread)
                rows.append(_row(cell, metric, value, error))
                if not isinstance(spread, float):
                    resampled.append((rows[-1], spread))
            advance(1, cell.title)
    table = Table(
        protocol=_protocol(params, measured), rows=tuple(rows), paired=tuple(_pairs(resampled))
    )
    write_record(out, table)


def load_table(path: Path) -> Table:
    """Read a table.

    Raises:
        UserError: The file is missing or is no table.
    """
    return read_record(path, Table, "run `lcm-lora score`")


def _row(cell: MeasuredSet, metric: str, value: float, error: float) -> Row:
    record = cell.record
    network = record.clip if metric == "clip_score" else record.network
    return Row(
        sampler=cell.sampler,
        steps=record.steps,
        guidance=record.guidance,
        seeds=cell.seeds,
        nfe=record.nfe,
        metric=metric,
        value=value,
        se=error,
        n=len(cell.features),
        network="attribute judge" if metric == "attributes" else network.name,
        ms=record.ms_per_image,
    )


def _pairs(resampled: list[tuple[Row, Array]]) -> Iterator[Pair]:
    """Yield the adapter against every solver of equal evaluations and noise, metric by metric."""
    adapter = [(row, spread) for row, spread in resampled if row.sampler == ADAPTER]
    solvers = [(row, spread) for row, spread in resampled if row.sampler in SOLVERS]
    for a, spread_a in adapter:
        for b, spread_b in solvers:
            if (a.metric, a.nfe, a.seeds) != (b.metric, b.nfe, b.seeds):
                continue
            found = paired_difference(a.value, b.value, spread_a, spread_b)
            yield Pair(
                metric=a.metric,
                nfe=a.nfe,
                a=Side(sampler=a.sampler, steps=a.steps, guidance=a.guidance),
                b=Side(sampler=b.sampler, steps=b.steps, guidance=b.guidance),
                difference=found.value,
                low=found.low,
                high=found.high,
                better=found.high < 0 if is_lower_better(a.metric) else found.low > 0,
            )


def _protocol(params: Score, measured: Measured) -> dict[str, Any]:
    real, teacher = measured.reference.record, measured.teacher.record
    protocol = {
        "n": len(measured.reference.features),
        "features": real.network.model_dump(),
        "clip": real.clip.model_dump(exclude_none=True),
        "attributes": measured.reference.attributes is not None,
        "resamples": params.resamples,
        "seed": params.seed,
        "captions_sha256": measured.real.record.captions_sha256,
        "reference": {
            "real": real.images_sha256,
            "teacher": teacher.model_dump(include={"steps", "guidance", "seeds"}),
        },
    }
    identity = hashlib.sha256(json.dumps(protocol, sort_keys=True).encode()).hexdigest()
    return protocol | {"sha256": identity}
