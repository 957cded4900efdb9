"""The table of scores as a record: what was measured, of whom, and what may be concluded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from lcm_lora.champion_record import Champion
from lcm_lora.params.generate import ADAPTER, CHAMPION, Sampler
from lcm_lora.records import Record, read_record
from lcm_lora.seeing.set_records import NetworkRecord

Verdict = Literal["better", "level", "worse"]
Against = Literal["champion", "rival", "teacher", "map"]
"""With whom the adapter is compared; `map` is a mix of weights beside the one of weights of 1."""


class MetricRecord(Record):
    """A metric: what it is called, which way is good, and whether few pictures mislead it."""

    name: str
    """Such as `fd_dinov2:real`, `kid:teacher`, `clip_score`, `attributes`."""
    title: str
    """In words, such as `Kernel distance to real pictures`."""
    kind: str
    """The formula: `fd`, `kid`, `cmmd`, `precision`, `recall`, `mean`, `diversity`."""
    array: str
    """Which array of the features it is computed from."""
    reference: Literal["real", "teacher"] | None
    lower_is_better: bool
    is_unbiased: bool
    """Its expectation is the same for any number of pictures."""
    unit: Literal["share", "points", "distance"]
    """Shares are shown in percent; points go to 100."""


class CellRecord(Record):
    """An image set in the table, under the one name that it has everywhere."""

    id: str
    """Such as `adapter/steps-4_guidance-1`."""
    painter: str
    sampler: Sampler | None
    steps: int
    guidance: float
    seeds: int
    nfe: int
    images_sha256: str
    subject_sha256: str | None


class Row(Record):
    """One metric of one image set."""

    cell: str
    metric: str
    value: float
    """The plain estimate."""
    bias: float
    """What the number of pictures adds to it, as far as it can be estimated; 0 without bias."""
    se: float
    n: int


class Pair(Record):
    """The adapter minus another in one metric, over shared prompts, with its interval.

    Or a point of the map minus the one of weights of 1. The interval belongs to all comparisons of
    its family (one metric, against the champion, all rivals, the teacher or the map's point) at
    once: with 95 % certainty all of them hold.
    """

    metric: str
    a: str
    """Id of the adapter's cell, or of a point of the map."""
    b: str
    against: Against
    difference: float
    """Without the estimated biases."""
    se: float
    low: float
    high: float
    is_decisive: bool = True
    """Whether anything may be concluded: not from a biased metric of few or matched pictures."""
    verdict: Verdict
    """Better or worse only where the whole interval says so, and it may be concluded."""


class Protocol(Record):
    """All that two tables must share to be compared, and its identity."""

    n: int
    arrays: dict[str, NetworkRecord]
    captions_sha256: str
    real_sha256: str
    """Over the real pictures that samplers are compared with."""
    teacher_sha256: str
    """And over the teacher's, of noises that no other painter starts from."""
    teacher: str
    """The id of those."""
    level: float
    """Of intervals, such as 0.95."""
    seed: int = 0
    """Of what is simulated to estimate biases."""
    code_sha256: str
    """Of what computes metrics."""
    looked_sha256: str = ""
    """Of what looked at pictures: code, libraries and device."""
    sha256: str
    """Over all the above."""


class Table(Record):
    """The table of scores: all that was measured, how, and what may be concluded."""

    protocol: Protocol
    champion: Champion | None
    metrics: tuple[MetricRecord, ...]
    """The first is the headline: without bias wherever few pictures would mislead."""
    cells: tuple[CellRecord, ...]
    """In the order of tables: real, then painters, each by steps, guidance and noise."""
    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...]

    @property
    def headline(self) -> MetricRecord:
        """The distance by which a reader should judge first."""
        return self.metrics[0]

    def metric(self, name: str) -> MetricRecord:
        """Return a metric by its name.

        Raises:
            KeyError: There is none.
        """
        return {metric.name: metric for metric in self.metrics}[name]

    def cells_of(self, painter: str, **wanted: Any) -> list[CellRecord]:
        """Return a painter's cells whose fields have the values wanted, in the table's order."""
        own = (cell for cell in self.cells if cell.painter == painter)
        return [cell for cell in own if all(getattr(cell, k) == v for k, v in wanted.items())]

    def row(self, cell: str, metric: str) -> Row | None:
        """Return one metric of one cell; None where it says nothing or was not measured."""
        return next((r for r in self.rows if r.cell == cell and r.metric == metric), None)

    def pair(self, metric: str, a: str, b: str) -> Pair | None:
        """Return how cell `a` of the adapter compares with cell `b`."""
        wanted = (metric, a, b)
        return next((p for p in self.pairs if (p.metric, p.a, p.b) == wanted), None)

    def counterpart(self, cell: CellRecord) -> CellRecord | None:
        """Return the champion's cell of the same steps, guidance and noise as the adapter's."""
        same = {name: getattr(cell, name) for name in ("steps", "guidance", "seeds")}
        return next(iter(self.cells_of(CHAMPION, **same)), None)

    @property
    def adapter(self) -> list[CellRecord]:
        """The adapter's cells of the first noises."""
        return self.cells_of(ADAPTER, seeds=0)


def read_table(path: Path) -> Table:
    """Read a table.

    Raises:
        UserError: The file is missing or is no table.
    """
    return read_record(path, Table, "run `lcm-lora score`")
