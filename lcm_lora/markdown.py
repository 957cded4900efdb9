"""What a run came to, in Markdown, as the pages of Prefect and MLflow show it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from lcm_lora.evaluation.scores import MetricRecord, Table
from lcm_lora.gate.decision import Decision
from lcm_lora.report.numbers import level, spread
from lcm_lora.report.style import how_title
from lcm_lora.report.verdict import judged_metrics, standings
from lcm_lora.terminal import compared

_HOLDS = {"passed": "yes", "failed": "**no**", "no champion": "needs a champion"}
_REST = "\n\nAnd more, in the report."


def standing(table: Table, decision: Decision) -> Iterator[str]:
    """Yield the lines of how adapter and champion do, in what the decision is about."""
    for metric in judged_metrics(table, decision):
        yield f"**{metric.title}**, {'lower' if metric.lower_is_better else 'higher'} is better\n"
        yield from _sheet(
            ("steps", "adapter", "champion", "adapter against champion"), _rows(table, metric)
        )
    yield f"± and ranges: intervals of {level(table)}\n"


def rules(decision: Decision) -> Iterator[str]:
    """Yield the lines of how every rule of the gate came out."""
    yield from _sheet(
        ("the gate's rule", "what came out", "holds"),
        ((rule.kind, rule.words, _HOLDS[rule.verdict]) for rule in decision.rules),
    )


def cut(text: str, most: int) -> str:
    """Return as many whole lines as go into `most` letters; where lines are left out, say so."""
    if len(text) <= most:
        return text
    whole, _, _ = text[: most - len(_REST)].rpartition("\n")
    return f"{whole.rstrip()}{_REST}"


def _rows(table: Table, metric: MetricRecord) -> Iterator[tuple[str, ...]]:
    for found in standings(table, metric):
        champion = spread(table, found.champion) if found.champion else "none"
        own = spread(table, found.row)
        yield how_title(found.cell), own, champion, compared(table, found)


def _sheet(names: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for cells in (names, ["---"] * len(names), *rows):
        yield f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
    yield ""
