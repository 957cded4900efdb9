"""Numbers as people read them: three digits, shares in percent, gains as better or worse."""

from __future__ import annotations

from math import floor, log10

from lcm_lora.evaluation import simultaneous
from lcm_lora.evaluation.scores import MetricRecord, Row, Table

_MINUS, _SPACE = "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"
_MOST = 9
"""Decimals."""


def number(value: float) -> str:
    """Return a value with three significant digits, two of those below 0.1, without exponent."""
    size = abs(value)
    if size < 10**-_MOST:
        return "0"
    if size < 0.0995:
        digits = min(_MOST, 1 - floor(log10(size)))
    else:
        digits = next((d for d in (3, 2, 1) if size < 10 ** (3 - d) * 0.9995), 0)
    return f"{value:.{digits}f}".replace("-", _MINUS)


def shown(metric: MetricRecord, value: float) -> str:
    """Return a metric's value in its unit."""
    if metric.unit != "share":
        return number(value)
    return f"{100 * value:.1f}{_SPACE}%".replace("-", _MINUS)


def half_width(table: Table, row: Row) -> float:
    """Return half the width of a value's interval, of the table's level."""
    return simultaneous.half_width(table.protocol.level) * row.se


def spread(table: Table, row: Row) -> str:
    """Return a value with half the width of its interval, both to two digits of that."""
    is_share = table.metric(row.metric).unit == "share"
    scale, unit = (100, f"{_SPACE}%") if is_share else (1, "")
    value, half = scale * row.value, scale * half_width(table, row)
    if half < 10**-_MOST:
        return f"{shown(table.metric(row.metric), row.value)}{_SPACE}±{_SPACE}0"
    digits = min(_MOST, max(0, 1 - floor(log10(half))))
    texts = [f"{part:.{digits}f}".replace("-", _MINUS) for part in (value, half)]
    return f"{_SPACE}±{_SPACE}".join(texts) + unit


def level(table: Table) -> str:
    """Return how sure intervals are, such as `95 %`."""
    return f"{100 * table.protocol.level:g}{_SPACE}%"


def gain(lower_is_better: bool, value: float, low: float, high: float) -> tuple[float, ...]:
    """Return a difference and its interval with the good side up: (value, low, high)."""
    return (-value, -high, -low) if lower_is_better else (value, low, high)


def gain_words(metric: MetricRecord, value: float) -> str:
    """Return a difference as `0.42 better` or `3.1 points worse`, whichever way is good."""
    better = -value if metric.lower_is_better else value
    return f"{_size(metric, value)} {'better' if better >= 0 else 'worse'}"


def gain_interval(metric: MetricRecord, low: float, high: float) -> str:
    """Return the ends of a difference's interval, the worse one first; each says its side once."""
    _, worst, best = gain(metric.lower_is_better, 0, low, high)
    if worst < 0 <= best:
        return f"{_size(metric, worst)} worse to {_size(metric, best)} better"
    first, last = sorted((abs(worst), abs(best)))
    side = "better" if worst >= 0 else "worse"
    return f"{_size(metric, first, bare=True)} to {_size(metric, last)} {side}"


def gain_range(metric: MetricRecord, low: float, high: float) -> str:
    """Return the ends of a difference's interval as `+0.12 to +0.34`, in points of shares."""
    _, worst, best = gain(metric.lower_is_better, 0, low, high)
    return " to ".join(_signed(metric, end) for end in (worst, best))


def _signed(metric: MetricRecord, value: float) -> str:
    return ("+" if value >= 0 else _MINUS) + _size(metric, value, bare=True)


def _size(metric: MetricRecord, value: float, bare: bool = False) -> str:
    if metric.unit != "share":
        return number(abs(value))
    return f"{100 * abs(value):.1f}" + ("" if bare else " points")
