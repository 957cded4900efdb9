"""Which pictures the report shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lcm_lora.evaluation.scores import CellRecord, Table
from lcm_lora.gate.decision import Decision
from lcm_lora.params.generate import ADAPTER, CHAMPION, REAL, TEACHER
from lcm_lora.report.grids import by_steps
from lcm_lora.report.numbers import shown
from lcm_lora.report.pictures import Pictures
from lcm_lora.report.thumbs import SheetColumn, Thumb, columns, thumb
from lcm_lora.report.values import (
    Values,
    most_different,
    picture_metrics,
    picture_values,
    worst,
)
from lcm_lora.report.verdict import judged_cell, teacher_cell


@dataclass(frozen=True, slots=True)
class Contrast:
    """The adapter's and the champion's picture of one prompt."""

    adapter: Thumb
    champion: Thumb


def side_by_side(pictures: Pictures, rows: int) -> list[SheetColumn]:
    """Return the teacher's pictures, and the adapter's beside the champion's at each step count."""
    table = pictures.table
    cells = [teacher_cell(table)]
    for cell in by_steps(table, ADAPTER, min):
        cells += [found for found in (cell, table.counterpart(cell)) if found]
    return columns(pictures, cells, range(min(rows, table.protocol.n)))


def rivals(pictures: Pictures, rows: int) -> list[SheetColumn]:
    """Return the pictures of all other painters, each at its highest guidance."""
    table = pictures.table
    known = {TEACHER, REAL, ADAPTER, CHAMPION}
    names = dict.fromkeys(cell.painter for cell in table.cells if cell.painter not in known)
    cells = [cell for name in names for cell in by_steps(table, name, max)]
    return columns(pictures, cells, range(min(rows, table.protocol.n)))


def noises(pictures: Pictures, rows: int) -> list[SheetColumn]:
    """Return cells that were painted from several noises, beside each other."""
    table = pictures.table
    groups: dict[tuple[str, int, float], list[CellRecord]] = {}
    for cell in table.cells:
        if cell.painter in {TEACHER, ADAPTER, CHAMPION}:
            groups.setdefault((cell.painter, cell.steps, cell.guidance), []).append(cell)
    # Without the adapter among them there is nothing to compare.
    several = [group for group in groups.values() if len(group) > 1]
    if not any(group[0].painter == ADAPTER for group in several):
        return []
    cells = [cell for group in several for cell in sorted(group, key=lambda cell: cell.seeds)]
    return columns(pictures, cells, range(min(rows, table.protocol.n)))


def worst_pictures(
    pictures: Pictures, features: Path, decision: Decision, count: int
) -> list[Thumb]:
    """Return the adapter's worst pictures at the judged cell."""
    table, cell = pictures.table, judged_cell(pictures.table, decision)
    values = _values(table, features, decision, cell)
    return _noted(pictures, cell, worst(values, count), values) if values else []


def contrasts(
    pictures: Pictures, features: Path, decision: Decision, count: int
) -> tuple[list[Contrast], list[Contrast]]:
    """Return where the adapter's pictures are better than the champion's, and where worse."""
    table = pictures.table
    cell = judged_cell(table, decision)
    other = table.counterpart(cell)
    if other is None:
        return [], []
    mine = _values(table, features, decision, cell)
    its = _values(table, features, decision, other)

    def pairs(indices: Sequence[int]) -> list[Contrast]:
        left = _noted(pictures, cell, indices, mine)
        return [
            Contrast(*pair)
            for pair in zip(left, _noted(pictures, other, indices, its), strict=True)
        ]

    better, worse = most_different(mine, its, count) if mine else ([], [])
    return pairs(better), pairs(worse)


def _values(table: Table, features: Path, decision: Decision, cell: CellRecord) -> Values:
    judged = [rule.metric for rule in decision.rules]
    return picture_values(features, cell, picture_metrics(table, judged))


def _noted(
    pictures: Pictures, cell: CellRecord, indices: Sequence[int], values: Values
) -> list[Thumb]:
    """Return pictures with what each metric says of them."""
    if not indices:
        return []
    return [
        thumb(picture, pictures.captions[i], _notes(pictures.table, values, i))
        for i, picture in zip(indices, pictures.read(cell, indices), strict=True)
    ]


def _notes(table: Table, values: Values, index: int) -> tuple[str, ...]:
    notes = []
    for name, array in values.items():
        metric, value = table.metric(name), float(array[index])
        if metric.unit == "share" and value in {0.0, 1.0}:
            notes.append("as captioned" if value else "not as captioned")
        else:
            plain = -value if metric.lower_is_better else value
            notes.append(f"{metric.title} {shown(metric, plain)}")
    return tuple(notes)
