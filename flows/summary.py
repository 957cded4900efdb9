"""Say on the terminal what a run came to."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lcm_lora import layout, terminal
from lcm_lora.evaluation.scores import Table as Scores
from lcm_lora.gate.decision import Decision
from tasks.registry import Move, Registered
from tasks.stage import Outcome

_SETTLED: dict[Move, str] = {
    "champion already": "Is champion",
    "carried out before": "Promoted once",
}
"""What there is to say of a decision after which nothing was done."""


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


def show_decision(
    console: Console, root: Path, version: Registered, decision: Decision, move: Move
) -> None:
    """Print where the report is, which version the adapter has, and what the gate said."""
    console.print(f"Report    {root / layout.REPORT / 'index.html'}", soft_wrap=True)
    known = "registered" if version.is_new else "registered before, the same adapter"
    console.print(f"Adapter   {version}, {known}", soft_wrap=True)
    if move == "champion already":
        verdict = f"no new champion: {version} is the champion already"
    elif move == "carried out before":
        verdict = (
            f"no new champion: {version} was promoted by this decision before, and the alias was "
            "moved since; move it back by hand, or train anew"
        )
    else:
        promoted = "new champion" if move == "promoted" else "no new champion"
        verdict = f"{promoted}: {decision.reason}"
    console.print(f"Gate      {verdict}", soft_wrap=True)
