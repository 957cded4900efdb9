"""Say on the terminal what a run came to."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flows.judging import Judged
from lcm_lora import layout, terminal
from lcm_lora.evaluation.scores import Table as Scores
from lcm_lora.gate.decision import Decision
from lcm_lora.mapping.standing import Other, Standing, standings
from lcm_lora.mapping.subjects import Tried
from lcm_lora.report.numbers import gain_interval, level, shown, spread
from lcm_lora.report.style import how_title
from tasks.champions.promotion import Move
from tasks.isolated.checkout import is_checkout
from tasks.running.stage import Outcome

_SETTLED: dict[Move, str] = {
    "champion already": "Is champion",
    "carried out before": "Promoted once",
}
"""What there is to say of a decision after which nothing was done."""

_WAITING: dict[Move, str] = {
    "proposed": "waits for a person to approve it",
    "refused before": "was refused by a person, after this decision",
    "rolled back before": "was champion and was rolled back",
}
"""Of a version that passed the gate, why it is not champion."""


def show_stages(console: Console, outcomes: Iterable[Outcome]) -> None:
    """Print what became of each stage."""
    table = Table(title="Stages", title_justify="left")
    table.add_column("stage")
    table.add_column("state")
    for outcome in outcomes:
        seconds = f" {outcome.seconds:.0f} s" if outcome.verdict == "Ran" else ""
        table.add_row(outcome.name, outcome.verdict + seconds)
    console.print(table)


def show_scores(
    console: Console, scores: Scores, decision: Decision, move: Move | None = None
) -> None:
    """Print the adapter and the champion by step count, and how every rule came out."""
    terminal.show_standing(console, scores, decision)
    terminal.show_rules(console, decision, _SETTLED.get(move) if move else None)
    console.print("Every number: lcm-lora scores --all, or --csv", style="dim")


def show_decision(console: Console, root: Path, judged: Judged) -> None:
    """Print where the report is, which version the adapter has, and what the gate said."""
    if not is_checkout(root):
        console.print(f"Report    {root / layout.REPORT / 'index.html'}", soft_wrap=True)
    version = judged.version
    known = "registered" if version.is_new else "registered before, the same adapter"
    console.print(f"Adapter   {version}, {known}", soft_wrap=True)
    console.print(f"Gate      {verdict(judged)}", soft_wrap=True)


def verdict(judged: Judged) -> str:
    """Return whether there is a new champion, why, and what a person can do."""
    version, move = judged.version, judged.move
    if move == "champion already":
        return f"no new champion: {version} is the champion already"
    if move in _WAITING:
        asks = f", as the flow run '{judged.asks.name}' asks" if judged.asks else ""
        return (
            f"no new champion: {version} {_WAITING[move]}{asks}; on your word: "
            f"`python -m flows.promote {version.version} --by NAME --why TEXT`"
        )
    if move == "carried out before":
        return (
            f"no new champion: {version} was promoted by this decision before, and the alias was "
            "moved since; move it back by hand, or train anew"
        )
    promoted = "new champion" if move == "promoted" else "no new champion"
    return f"{promoted}: {judged.decision.reason}"


def show_transfer(console: Console, tried: Iterable[Tried]) -> None:
    """Print how the adapter does on each subject, beside its many steps and solvers of its cost."""
    table = None
    for one in tried:
        table = one.table
        title = f"{one.name}: {one.kind}; the adapter at {how_title(one.cell)}"
        console.print(Text(title, style="bold"))
        console.print(_standing_sheet(one))
        console.print()
    if table is not None:
        console.print(f"± and ranges: intervals of {level(table)}", style="dim")


def _standing_sheet(tried: Tried) -> Table:
    sheet = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    for name in ("", "adapter", "many steps", "strongest solver", "adapter against it"):
        sheet.add_column(name, justify="left" if name in {"", "adapter against it"} else "right")
    for one in standings(tried):
        others = (_value(one, one.teacher), _value(one, one.solver))
        own = spread(tried.table, one.row)
        sheet.add_row(one.metric.title, own, *others, _compared(one))
    return sheet


def _value(one: Standing, other: Other | None) -> str:
    return shown(one.metric, other.row.value) if other else ""


def _compared(one: Standing) -> str:
    """Return how the adapter compares with the strongest solver, such as `0.30 to 0.55 better`."""
    pair = one.solver.pair if one.solver else None
    if pair is None or one.verdict == "none":
        return ""
    is_open = one.verdict == "level"
    return "not told apart" if is_open else gain_interval(one.metric, pair.low, pair.high)


def show_page(console: Console, root: Path, version: str | None) -> None:
    """Print where the page of the transfer evaluation is, and where all was logged."""
    page = root / layout.TRANSFER / "report" / "index.html"
    logged = f"logged to the run of {version}" if version else "not registered, so nothing logged"
    if not is_checkout(root):
        console.print(f"Report    {page}", soft_wrap=True)
    console.print(f"Adapter   {logged}", soft_wrap=True)
