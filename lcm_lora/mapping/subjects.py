"""What there is to show of each subject: what it is, what was measured of it, and its pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lcm_lora.errors import UserError
from lcm_lora.evaluation.scores import CellRecord, MetricRecord, Row, Table
from lcm_lora.inventory.painters import PainterInventory
from lcm_lora.params.generate import ADAPTER, TEACHER, Cell
from lcm_lora.params.transfer import Mix, Subject, Transfer
from lcm_lora.records import read_record
from lcm_lora.report.pictures import Pictures, open_pictures

_FIRST = ("both", "attributes", "look")
"""Metrics that are shown before all others, where they were measured."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything is, a file or a folder for each subject."""

    inventory: Path
    """What the first look saw."""
    images: Path
    scores: Path


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a subject's map."""

    mix: Mix
    cell: CellRecord


@dataclass(frozen=True, slots=True)
class Tried:
    """A subject that the adapter was tried on."""

    name: str
    subject: Subject
    found: PainterInventory
    table: Table
    pictures: Pictures
    cell: CellRecord
    """The adapter's, by which it is judged: that of the map, else the nearest to 4 steps."""
    solvers: tuple[str, ...]
    """Who else paints it, without the adapter."""
    points: tuple[Point, ...]

    @property
    def kind(self) -> str:
        """What it is, in words."""
        styles = len(self.subject.adapters)
        style = {0: "", 1: "a style"}.get(styles, f"{styles} styles")
        base = "a fine-tune" if self.subject.base else ""
        return " with ".join(filter(None, (base, style))) or "its own base, for comparison"

    @property
    def is_control(self) -> bool:
        """Tell whether the adapter is at home here: on its own base, beside no style."""
        return not (self.subject.base or self.subject.adapters)

    @property
    def metrics(self) -> list[MetricRecord]:
        """What is shown of it, that which tells most first.

        Distances to real pictures are not among them: those show no style, and no fine-tune's look.
        """
        able = [m for m in self.table.metrics if m.kind == "mean" or m.reference == "teacher"]
        return sorted(able, key=_rank)

    @property
    def leading(self) -> MetricRecord:
        """The metric by which a reader should judge first."""
        return self.metrics[0]

    def rows(self, metric: MetricRecord) -> list[tuple[Point, Row]]:
        """Return what each point of the map came to in a metric."""
        found = ((point, self.table.row(point.cell.id, metric.name)) for point in self.points)
        return [(point, row) for point, row in found if row]


def read_tried(params: Transfer, places: Places) -> list[Tried]:
    """Read what there is of every subject.

    Raises:
        UserError: Something of one is missing, damaged or not what was scored.
    """
    return [_read(name, params, places) for name in params.subjects]


def _read(name: str, params: Transfer, places: Places) -> Tried:
    scores = places.scores / name / "scores.json"
    table = read_record(scores, Table, f"run `lcm-lora transfer-score {name}`")
    inventory = places.inventory / f"{name}.json"
    wanted = params.map.cell if params.map else Cell(steps=4, guidance=1.0)
    return Tried(
        name=name,
        subject=params.subjects[name],
        found=read_record(inventory, PainterInventory, "run `lcm-lora inventory`"),
        table=table,
        pictures=open_pictures(places.images / name, table, lambda _: f"lcm-lora transfer {name}"),
        cell=_nearest(scores, table, wanted),
        solvers=tuple(painter for painter in params.painters if painter != TEACHER),
        points=tuple(_points(scores, table, params, name)),
    )


def _nearest(scores: Path, table: Table, wanted: Cell) -> CellRecord:
    """Return the adapter's cell that is most like the one wanted."""
    if not table.adapter:
        name = scores.parent.name
        raise UserError(f"{scores}: says nothing of {ADAPTER}; run `lcm-lora transfer {name}`")

    def distance(cell: CellRecord) -> tuple[int, float]:
        return abs(cell.steps - wanted.steps), abs(cell.guidance - wanted.guidance)

    return min(table.adapter, key=distance)


def _points(scores: Path, table: Table, params: Transfer, name: str) -> Iterator[Point]:
    for mix in params.mixes(name):
        cells = table.cells_of(mix.name)
        if not cells:
            raise UserError(
                f"{scores}: says nothing of {mix.name}; run `lcm-lora transfer {name}`, look at "
                "its pictures and score them again"
            )
        yield Point(mix, cells[0])


def _rank(metric: MetricRecord) -> tuple[int, bool, bool]:
    """Return how early a metric is shown: before others if it is judged, near or unbiased."""
    first = _FIRST.index(metric.name) if metric.name in _FIRST else len(_FIRST)
    return first, metric.reference is None, not metric.is_unbiased
