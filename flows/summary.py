"""Say on the terminal what a run came to."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lcm_lora import layout
from lcm_lora.evaluation.table import Table as Scores
from tasks.gate import Decision
from tasks.registry import Registered
from tasks.stage import Outcome


def show_stages(console: Console, outcomes: Iterable[Outcome]) -> None:
    """Print what became of each stage."""
    table = Table(title="Stages", title_justify="left")
    table.add_column("stage")
    table.add_column("state")
    for outcome in outcomes:
        seconds = f" {outcome.seconds:.0f} s" if outcome.verdict == "Ran" else ""
        table.add_row(outcome.name, outcome.verdict + seconds)
    console.print(table)


def show_scores(console: Console, scores: Scores) -> None:
    """Print value ± standard error of every metric, one line for each image set."""
    metrics = list(dict.fromkeys(row.metric for row in scores.rows))
    cells = {
        (row.sampler, row.steps, row.guidance, row.seeds, row.metric): row for row in scores.rows
    }
    table = Table(title="Scores (± standard error)", title_justify="left")
    for name in ("sampler", "steps", "guidance", *metrics):
        table.add_column(name, justify="left" if name == "sampler" else "right")
    for place in dict.fromkeys(key[:4] for key in cells):
        sampler, steps, guidance, seeds = place
        found = [cells.get((*place, metric)) for metric in metrics]
        values = [f"{row.value:.4g} ± {row.se:.2g}" if row else "" for row in found]
        name = f"{sampler} (other noise)" if seeds else sampler
        table.add_row(name, str(steps), f"{guidance:g}", *values)
    console.print(table)


def show_decision(console: Console, root: Path, version: Registered, decision: Decision) -> None:
    """Print where the report is, which version the adapter has, and what the gate said."""
    console.print(f"Report    {root / layout.REPORT / 'index.html'}", soft_wrap=True)
    known = "registered" if version.is_new else "registered before, the same adapter"
    console.print(f"Adapter   {version}, {known}", soft_wrap=True)
    verdict = "new champion" if decision.promote else "no new champion"
    console.print(f"Gate      {verdict}: {decision.reason}", soft_wrap=True)
