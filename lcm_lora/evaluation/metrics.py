"""Measure image sets by a metric, and compare them over the prompts that they share.

Every kind of metric is an instrument: it gives a set's value with its bias and standard error, and
differences of sets with theirs. Of all kinds differences are paired: what a hard prompt, or a freak
among the reference's pictures, does to two sets alike cancels.

Legend: N pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lcm_lora.evaluation.cells import Measured, MeasuredSet
from lcm_lora.evaluation.diversity import diversity
from lcm_lora.evaluation.frechet import (
    FrechetEstimate,
    Law,
    frechet_error,
    frechet_estimate,
    likeness,
)
from lcm_lora.evaluation.kernel import (
    Reference,
    cubic,
    gaussian,
    kernel_differences,
    kernel_estimate,
    unit_rows,
)
from lcm_lora.evaluation.neighbours import Region, Share
from lcm_lora.evaluation.scores import MetricRecord
from lcm_lora.params.generate import REAL

Array = NDArray[np.float64]

AT_ONCE = 2
"""Cells that are measured side by side: eigenvalues hardly gain from a second core, and more cells
at once would hold more features in memory."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric of a set."""

    value: float
    bias: float
    se: float


@dataclass(frozen=True, slots=True)
class Difference:
    """A metric of one set minus that of another, without biases."""

    value: float
    se: float
    is_decisive: bool = True
    """Whether better or worse may be concluded from it at all."""


class Instrument(Protocol):
    """Measures sets by one metric."""

    def estimate(self, cell: MeasuredSet) -> Estimate:
        """Return the metric of a set."""
        ...

    def differences(self, cell: MeasuredSet, others: Sequence[MeasuredSet]) -> list[Difference]:
        """Return the metric of `cell` minus that of each of `others`, of the same prompts."""
        ...


def instrument_of(metric: MetricRecord, measured: Measured, seed: int) -> Instrument:
    """Return what measures the sets of a table by a metric.

    Args:
        metric: One of `metrics_of`.
        measured: The table's sets.
        seed: Of what is simulated.
    """
    array = metric.array
    reference = measured.teacher if metric.reference == "teacher" else measured.reference
    matched = metric.reference == "teacher"
    match metric.kind:
        case "fd":
            return _Frechet(array, Law.of(reference.values(array)), matched, seed)
        case "kid":
            return _Kernel(array, Reference(reference.values(array), matched, cubic))
        case "cmmd":
            units = unit_rows(reference.values(array))
            return _Kernel(array, Reference(units, matched, gaussian), unit_rows)
        case "precision":
            region = Region.of(reference.values(array))
            return _Means(lambda cell: _parts(region.share(cell.values(array))))
        case "recall":
            real = reference.values(array)
            return _Means(lambda cell: _parts(Region.of(cell.values(array)).share(real)))
        case "diversity":
            return _Means(lambda cell: _diversity(cell, measured, array))
        case _:
            return _Means(lambda cell: (cell.values(array),))


def applies(metric: MetricRecord, cell: MeasuredSet, measured: Measured) -> bool:
    """Tell whether a metric says something about a set.

    The distance to the teacher does not about pictures that start from the reference's noise;
    diversity is told of the first noises, for all of a cell's; and the points of a map are there to
    be compared with each other, which likeness to real pictures says nothing of.
    """
    painted, map_ = cell.record.painter != REAL, measured.compared.map
    if metric.reference == "real" and map_ and cell.record.painter in map_.points:
        return False
    if metric.kind == "diversity":
        return painted and cell.record.seeds == 0 and len(measured.noises_of(cell)) > 1
    if metric.reference == "teacher" and painted:
        return cell.record.seeds != measured.teacher.record.seeds
    return True


Parts = tuple[Array, ...]
"""Independent parts of a metric's noise: single values whose means vary about the metric's."""


@dataclass(frozen=True, slots=True)
class _Means:
    """A mean of one value a picture or prompt, with further parts of its error."""

    parts_of: Callable[[MeasuredSet], Parts]
    known: dict[str, Parts] = field(default_factory=dict)

    def estimate(self, cell: MeasuredSet) -> Estimate:
        parts = self._parts(cell)
        return Estimate(float(parts[0].mean()), 0.0, _error(parts))

    def differences(self, cell: MeasuredSet, others: Sequence[MeasuredSet]) -> list[Difference]:
        return [self._difference(self._parts(cell), self._parts(other)) for other in others]

    def _difference(self, a: Parts, b: Parts) -> Difference:
        apart = tuple(x - y for x, y in zip(a, b, strict=True))
        return Difference(float(apart[0].mean()), _error(apart))

    def _parts(self, cell: MeasuredSet) -> Parts:
        if cell.id not in self.known:
            self.known[cell.id] = self.parts_of(cell)
        return self.known[cell.id]


@dataclass(frozen=True, slots=True)
class _Frechet:
    """The Fréchet distance; differences are those of corrected distances."""

    array: str
    reference: Law
    matched: bool
    seed: int
    known: dict[str, FrechetEstimate] = field(default_factory=dict)

    def estimate(self, cell: MeasuredSet) -> Estimate:
        found = self._estimate(cell)
        return Estimate(found.value, found.bias, found.se)

    def differences(self, cell: MeasuredSet, others: Sequence[MeasuredSet]) -> list[Difference]:
        return [self._difference(cell, other) for other in others]

    def _difference(self, cell: MeasuredSet, other: MeasuredSet) -> Difference:
        a, b = self._estimate(cell), self._estimate(other)
        # Below, likeness is not asked for, and of many dimensions it costs as much as a distance.
        like = likeness(self._law(cell), self._law(other)) if a.is_decisive else 0.0
        value = (a.value - a.bias) - (b.value - b.bias)
        return Difference(value, frechet_error(a, b, like), a.is_decisive)

    def _estimate(self, cell: MeasuredSet) -> FrechetEstimate:
        if cell.id not in self.known:
            law = self._law(cell)
            self.known[cell.id] = frechet_estimate(law, self.reference, self.matched, self.seed)
        return self.known[cell.id]

    def _law(self, cell: MeasuredSet) -> Law:
        return Law.of(cell.values(self.array))


@dataclass(frozen=True, slots=True)
class _Kernel:
    """A kernel distance, KID or CMMD."""

    array: str
    reference: Reference
    prepare: Callable[[Array], Array] = np.asarray

    def estimate(self, cell: MeasuredSet) -> Estimate:
        found = kernel_estimate(self._rows(cell), self.reference)
        return Estimate(found.value, 0.0, found.se)

    def differences(self, cell: MeasuredSet, others: Sequence[MeasuredSet]) -> list[Difference]:
        rows = [self._rows(each) for each in (cell, *others)]
        found = kernel_differences(rows[0], rows[1:], self.reference)
        return [Difference(contrast.value, contrast.se) for contrast in found]

    def _rows(self, cell: MeasuredSet) -> Array:
        return self.prepare(cell.values(self.array))


def _parts(share: Share) -> Parts:
    return share.inside, share.pseudo


def _diversity(cell: MeasuredSet, measured: Measured, array: str) -> Parts:
    return (diversity([each.values(array) for each in measured.noises_of(cell)]),)


def _error(parts: Parts) -> float:
    return float(np.sqrt(sum(np.var(part, ddof=1) / len(part) for part in parts)))
