"""Whom the adapter is compared with, and what may be concluded from a family of comparisons.

Several step counts and several rivals are compared at once. So that this does not make a chance
finding likelier, intervals are simultaneous: those of one metric against the champion, all rivals
or the teacher, or of a map's points against weights of 1, are one family of m, and each is as wide
as an interval of level 1 - (1 - level) / m (Bonferroni). With the level's certainty all of a family
hold together, however they depend.

Source: Dunn 1961.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from lcm_lora.evaluation.cells import Compared, Map, Measured, MeasuredSet
from lcm_lora.evaluation.metrics import AT_ONCE, Difference, Instrument, applies
from lcm_lora.evaluation.scores import Against, MetricRecord, Pair, Verdict
from lcm_lora.evaluation.simultaneous import half_width
from lcm_lora.params.generate import ADAPTER, CHAMPION, TEACHER

Partner = tuple[Against, MeasuredSet]


def pairs_of(
    metric: MetricRecord,
    instrument: Instrument,
    measured: Measured,
    level: float,
) -> list[Pair]:
    """Return all comparisons by a metric: of the adapter, and of the points of a map.

    Args:
        metric: By which.
        instrument: That measures it.
        measured: All sets, and whom to compare.
        level: Of a family's intervals together.
    """
    everyone = ((c, list(_partners(metric, c, measured))) for c in measured.cells)
    compared = [(cell, others) for cell, others in everyone if others]

    def compare(one: tuple[MeasuredSet, list[Partner]]) -> list[Difference]:
        return instrument.differences(one[0], [other for _, other in one[1]])

    families: dict[Against, list[tuple[MeasuredSet, MeasuredSet, Difference]]] = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for (cell, others), differences in zip(compared, pool.map(compare, compared), strict=True):
            for (against, other), difference in zip(others, differences, strict=True):
                families.setdefault(against, []).append((cell, other, difference))
    return [
        _pair(metric, against, a, b, difference, half_width(level, len(family)))
        for against, family in families.items()
        for a, b, difference in family
    ]


def _partners(metric: MetricRecord, cell: MeasuredSet, measured: Measured) -> Iterator[Partner]:
    """Yield all cells of the same noise that a cell of the adapter, or of the map, compares to."""
    if not applies(metric, cell, measured):
        return
    same_noise = [c for c in measured.cells if c.record.seeds == cell.record.seeds]
    able = [c for c in same_noise if applies(metric, c, measured)]
    if cell.record.painter == ADAPTER:
        yield from _of_adapter(cell, able, measured.compared)
    yield from (("map", c) for c in able if _is_whole(c, cell, measured.compared.map))


def _of_adapter(
    cell: MeasuredSet, able: list[MeasuredSet], compared: Compared
) -> Iterator[Partner]:
    """Yield the champion's cell of equal steps and guidance, and rivals' of equal evaluations.

    And the teacher's of most evaluations, where it is to be compared.
    """
    yield from (("champion", c) for c in able if _is_counterpart(c, cell))
    equal = (c for c in able if c.record.nfe == cell.record.nfe)
    yield from (("rival", c) for c in equal if c.record.painter in compared.rivals)
    own = [c for c in able if c.record.painter == TEACHER and compared.with_teacher]
    most = max((c.record.nfe for c in own), default=0)
    yield from (("teacher", c) for c in own if c.record.nfe == most)


def _is_counterpart(other: MeasuredSet, cell: MeasuredSet) -> bool:
    a, b = other.record, cell.record
    return a.painter == CHAMPION and (a.steps, a.guidance) == (b.steps, b.guidance)


def _is_whole(other: MeasuredSet, cell: MeasuredSet, map_: Map | None) -> bool:
    """Tell whether a cell is a point of the map, and the other one the map's of weights of 1."""
    a, b = other.record, cell.record
    if map_ is None or b.painter not in map_.points or a.painter == b.painter:
        return False
    return a.painter == map_.whole and (a.steps, a.guidance) == (b.steps, b.guidance)


def _pair(
    metric: MetricRecord,
    against: Against,
    a: MeasuredSet,
    b: MeasuredSet,
    found: Difference,
    width: float,
) -> Pair:
    low, high = found.value - width * found.se, found.value + width * found.se
    return Pair(
        metric=metric.name,
        a=a.id,
        b=b.id,
        against=against,
        difference=found.value,
        se=found.se,
        low=low,
        high=high,
        is_decisive=found.is_decisive,
        verdict=_verdict(low, high, metric.lower_is_better) if found.is_decisive else "level",
    )


def _verdict(low: float, high: float, lower_is_better: bool) -> Verdict:
    below, above = high < 0, low > 0
    if not (below or above):
        return "level"
    return "better" if below == lower_is_better else "worse"
