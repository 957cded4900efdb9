"""The model card: what the adapter is, how to use it, how good it is and where it comes from."""

from __future__ import annotations

from collections.abc import Sequence

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from lcm_lora.evaluation.scores import CellRecord, MetricRecord, Table
from lcm_lora.evaluation.selection import Selection
from lcm_lora.families.family import FAMILIES
from lcm_lora.gate.decision import Decision
from lcm_lora.params.generate import ADAPTER, REAL
from lcm_lora.recipe import Recipe
from lcm_lora.report.numbers import level, spread
from lcm_lora.report.style import cell_title, how_title
from lcm_lora.report.templates import render
from lcm_lora.report.verdict import choice, drawn_metrics, headline, recommended
from lcm_lora.training.origin import Origin


def model_card(
    title: str,
    table: Table,
    decision: Decision,
    recipe: Recipe,
    origin: Origin,
    selection: Selection,
    prompt: str,
) -> str:
    """Return the card as Markdown with a YAML head, as model hubs read it.

    Args:
        title: Its heading.
        table: Scores.
        decision: Whether it was promoted.
        recipe: What `distill` wrote beside the adapter.
        origin: Who made it.
        selection: Which candidate it is.
        prompt: Example of use.
    """
    metrics = drawn_metrics(table, decision)
    body = render(
        "model_card.md.j2",
        title=title,
        headline=headline(table),
        verdict="Promoted." if decision.promote else "Not promoted.",
        reason=decision.reason,
        rules=decision.rules,
        steps=recommended(table).steps,
        metrics=metrics,
        scores=_scores(table, metrics),
        protocol=table.protocol,
        level=level(table),
        recipe=recipe,
        family=FAMILIES[recipe.base.family].title,
        origin=origin,
        choice=choice(selection, recipe),
        prompt=prompt,
    )
    head = ModelCardData(
        model_name=title,
        library_name="diffusers",
        pipeline_tag="text-to-image",
        base_model=recipe.base.model,
        tags=["lora", "lcm-lora", "latent-consistency", "few-step"],
        eval_results=_results(table),
    )
    return str(ModelCard(f"---\n{head.to_yaml()}\n---\n\n{body}", ignore_metadata_errors=False))


def _results(table: Table) -> list[EvalResult]:
    """Return every number of the adapter as hubs list them, each metric named with its cell."""
    titles = {metric.name: metric.title for metric in table.metrics}
    return [
        EvalResult(
            task_type="text-to-image",
            dataset_name=f"Evaluation set {table.protocol.sha256[:12]}",
            dataset_type=f"evaluation-set-{table.protocol.sha256[:12]}",
            dataset_args={"prompts": table.protocol.n},
            metric_type=row.metric,
            metric_value=row.value,
            metric_name=f"{titles[row.metric]}, {how_title(cell)}",
            metric_args=_arguments(cell) | {"se": row.se},
        )
        for cell in table.cells_of(ADAPTER)
        for row in table.rows
        if row.cell == cell.id
    ]


def _arguments(cell: CellRecord) -> dict[str, object]:
    fields = ("id", "sampler", "steps", "guidance", "seeds", "nfe")
    return {name: getattr(cell, name) for name in fields}


def _scores(table: Table, metrics: Sequence[MetricRecord]) -> list[list[str]]:
    """Return a line for each cell of the first noises: its name, cost and metrics."""
    cells = [cell for cell in table.cells if cell.seeds == 0 and cell.painter != REAL]
    cells.sort(key=lambda cell: cell.painter != ADAPTER)
    lines = []
    for cell in cells:
        rows = [table.row(cell.id, metric.name) for metric in metrics]
        values = [spread(table, row) if row else "" for row in rows]
        lines.append([cell_title(cell), str(cell.nfe), *values])
    return lines
