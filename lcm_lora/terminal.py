"""What a run came to on a terminal of 80 columns: adapter, champion, verdict; all on request."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.table import Table as Sheet
from rich.text import Text

from lcm_lora import layout
from lcm_lora.evaluation.scores import MetricRecord, Table, read_table
from lcm_lora.gate.decision import Decision, Rule
from lcm_lora.recipe import read_recipe
from lcm_lora.report.judged import read_judged
from lcm_lora.report.numbers import gain_interval, level, shown, spread
from lcm_lora.report.style import how_title
from lcm_lora.report.tidy import as_csv, tidy
from lcm_lora.report.verdict import Standing, judged_metrics, standings

_MARKS = {"passed": "yes", "failed": "no"}
_CELL = 48
"""Columns for a cell's id."""

_STYLES = {"better": "green", "worse": "red", "level": ""}


def run(everything: bool, csv: bool) -> None:
    """Print the scores of the working folder: what the decision is about, or every number."""
    console = Console(highlight=False)
    if csv:
        sys.stdout.write(as_csv(read_table(layout.SCORES)))
        return
    if everything:
        show_all(console, read_table(layout.SCORES))
        return
    recipe = read_recipe(layout.ADAPTER)
    table, decision = read_judged(layout.SCORES, layout.DECISION, recipe)
    show_standing(console, table, decision)
    show_rules(console, decision)


def show_standing(console: Console, table: Table, decision: Decision) -> None:
    """Print adapter and champion by step count, in the headline and what the gate judges."""
    for metric in judged_metrics(table, decision):
        good = "lower" if metric.lower_is_better else "higher"
        console.print(Text(f"{metric.title}, {good} is better", style="bold"))
        console.print(_standing_sheet(table, standings(table, metric)))
        console.print()
    console.print(Text(f"± and ranges: intervals of {level(table)}", style="dim"))


def show_rules(console: Console, decision: Decision, outcome: str | None = None) -> None:
    """Print the verdict, and every rule with what came out.

    Args:
        console: Where to.
        decision: About the adapter.
        outcome: What came of it, in at most 14 letters, where that is known.
    """
    verdict = "Promote" if decision.promote else "Do not promote"
    style = "bold green" if decision.promote else "bold red"
    if outcome:
        verdict, style = outcome, "bold"
    console.print(_beside([(Text(verdict, style=style), Text(decision.reason))], 14))
    asked = [rule for rule in decision.rules if rule.verdict != "no champion"]
    console.print(_beside([(_mark(rule), Text(rule.words)) for rule in asked], 14))
    if others := len(decision.rules) - len(asked):
        console.print(f"  -   {others} {'rule needs' if others == 1 else 'rules need'} a champion")


def show_all(console: Console, table: Table) -> None:
    """Print every number of a table, a line each."""
    for metric in table.metrics:
        console.print(Text(f"{metric.title} ({metric.name})", style="bold"))
        console.print(_metric_sheet(table, metric))
        console.print()


def _standing_sheet(table: Table, found: Sequence[Standing]) -> Sheet:
    sheet = _sheet(("steps", 21), ("adapter", 15), ("champion", 15), ("", 26))
    for standing in found:
        champion = spread(table, standing.champion) if standing.champion else "none"
        sheet.add_row(
            how_title(standing.cell),
            spread(table, standing.row),
            champion,
            Text(compared(table, standing), style=_style(standing)),
        )
    return sheet


def compared(table: Table, standing: Standing) -> str:
    """Return how the adapter does against the champion, such as `0.30 to 0.55 better`."""
    pair = standing.pair
    if pair is None:
        return ""
    if pair.verdict == "level":
        return "not told apart"
    return gain_interval(table.metric(pair.metric), pair.low, pair.high)


def _style(standing: Standing) -> str:
    return _STYLES[standing.pair.verdict] if standing.pair else ""


def _metric_sheet(table: Table, metric: MetricRecord) -> Sheet:
    sheet = _sheet(("cell", _CELL), ("value", 15), ("bias", 9))
    for cell, row in tidy(table):
        if row.metric == metric.name:
            bias = shown(metric, row.bias) if row.bias else ""
            sheet.add_row(shortened(cell.id), spread(table, row), bias)
    return sheet


def shortened(cell: str) -> str:
    """Return a cell's id within its column: all of how it paints, and both ends of who."""
    if len(cell) <= _CELL:
        return cell
    painter, _, how = cell.rpartition("/")
    room = _CELL - len(how) - len("…/")
    end = room // 2
    return f"{painter[: room - end]}…{painter[len(painter) - end :]}/{how}"


def _sheet(*columns: tuple[str, int]) -> Sheet:
    """Return a table of columns of fixed widths, which no text can break into several lines."""
    sheet = Sheet(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    for i, (name, width) in enumerate(columns):
        is_text = i in {0, 3}
        justify = "left" if is_text else "right"
        sheet.add_column(name, justify=justify, width=width, no_wrap=True, overflow="ellipsis")  # type: ignore[arg-type]
    return sheet


def _beside(rows: Sequence[tuple[Text, RenderableType]], width: int) -> Sheet:
    """Return texts, each wrapped beside its mark."""
    sheet = Sheet.grid(padding=(0, 1, 0, 0))
    sheet.add_column(width=width)
    sheet.add_column(ratio=1)
    for mark, text in rows:
        sheet.add_row(mark, text)
    return sheet


def _mark(rule: Rule) -> Text:
    style = "red" if rule.verdict == "failed" else ""
    return Text(f"  {_MARKS[rule.verdict]:<4}{rule.kind}", style=style)
