"""A table of an adapter and a champion at one step count, for tests of what is decided on it."""

from __future__ import annotations

from typing import Literal

from lcm_lora.evaluation.scores import (
    CellRecord,
    Champion,
    MetricRecord,
    Pair,
    Protocol,
    Row,
    Table,
    Verdict,
)
from lcm_lora.evaluation.simultaneous import half_width
from lcm_lora.params.generate import Cell, cell_id

LEVEL = 0.95

CHAMPION = Champion(version="toy version 1", weights_sha256="champion")


def metric_of(
    name: str,
    *,
    kind: str = "mean",
    lower_is_better: bool = False,
    unit: Literal["share", "points", "distance"] = "share",
) -> MetricRecord:
    return MetricRecord(
        name=name,
        title=name.capitalize(),
        kind=kind,
        array=name,
        reference=None,
        lower_is_better=lower_is_better,
        is_unbiased=True,
        unit=unit,
    )


METRICS = (
    metric_of("kid:real", kind="kid", lower_is_better=True, unit="distance"),
    metric_of("attributes"),
    metric_of("clip_score", unit="points"),
    metric_of("fd:real", kind="fd", lower_is_better=True, unit="distance"),
    metric_of("diversity", kind="diversity", unit="distance"),
)

CELL = Cell(steps=4, guidance=1.0)
OTHER = Cell(steps=4, guidance=1.5)


def cell_of(painter: str, cell: Cell) -> CellRecord:
    return CellRecord(
        id=cell_id(painter, cell),
        painter=painter,
        sampler="lcm",
        steps=cell.steps,
        guidance=cell.guidance,
        seeds=cell.seeds,
        nfe=cell.nfe,
        images_sha256="images",
        subject_sha256=painter,
    )


def pair_of(
    metric: str, low: float, high: float, cell: Cell = CELL, is_decisive: bool = True
) -> Pair:
    """Return the adapter minus the champion in a metric, by the interval of it alone.

    In the table, where seven are compared at once, intervals are wider.
    """
    middle, se = (low + high) / 2, (high - low) / 2 / half_width(LEVEL)
    wide = half_width(LEVEL, 7) * se
    told = "level" if low <= 0 <= high or not is_decisive else _better(metric, low)
    return Pair(
        metric=metric,
        a=cell_id("adapter", cell),
        b=cell_id("champion", cell),
        against="champion",
        difference=middle,
        se=se,
        low=middle - wide,
        high=middle + wide,
        is_decisive=is_decisive,
        verdict=told,
    )


def _better(metric: str, low: float) -> Verdict:
    is_lower = {m.name: m.lower_is_better for m in METRICS}[metric]
    return "better" if (low < 0) == is_lower else "worse"


def table_of(
    values: dict[str, float],
    *pairs: Pair,
    champion: Champion | None = CHAMPION,
    cells: tuple[Cell, ...] = (CELL,),
) -> Table:
    """Return a table with these values of the adapter at every cell, and these pairs."""
    rows = [
        Row(cell=cell_id("adapter", cell), metric=name, value=value, bias=0.0, se=1.0, n=8)
        for cell in cells
        for name, value in values.items()
    ]
    painters = ["adapter", "champion"] if champion else ["adapter"]
    protocol = Protocol(
        n=8,
        arrays={},
        captions_sha256="captions",
        real_sha256="real",
        teacher_sha256="teacher",
        teacher="teacher/steps-50_guidance-3_seeds-1",
        level=LEVEL,
        code_sha256="code",
        sha256="protocol",
    )
    return Table(
        protocol=protocol,
        champion=champion,
        metrics=METRICS,
        cells=tuple(cell_of(painter, cell) for painter in painters for cell in cells),
        rows=tuple(rows),
        pairs=pairs,
    )
