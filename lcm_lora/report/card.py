"""The model card: what the adapter is, how to use it, how good it is and where it comes from."""

from __future__ import annotations

from lcm_lora.evaluation.selection import Selection
from lcm_lora.evaluation.table import ADAPTER, SOLVERS, Table
from lcm_lora.families.family import FAMILIES
from lcm_lora.recipe import Recipe
from lcm_lora.report.style import sampler_title
from lcm_lora.report.templates import render
from lcm_lora.report.verdict import choice, headline, interval, recommended, summary
from lcm_lora.training.origin import Origin


def model_card(
    title: str, table: Table, recipe: Recipe, origin: Origin, selection: Selection, prompt: str
) -> str:
    """Return the card as Markdown with a YAML head, as model hubs read it.

    Args:
        title: Its heading.
        table: Scores.
        recipe: What `distill` wrote beside the adapter.
        origin: Who made it.
        selection: Which candidate it is.
        prompt: Example of use.
    """
    metrics = [table.distance("real"), table.distance("teacher"), "clip_score", "attributes"]
    metrics = [metric for metric in metrics if table.select(metric=metric)]
    return render(
        "model_card.md.j2",
        title=title,
        headline=headline(table),
        summary=summary(table),
        steps=recommended(table).steps,
        metrics=metrics,
        scores=_scores(table, metrics),
        protocol=table.protocol,
        recipe=recipe,
        family=FAMILIES[recipe.base.family].title,
        origin=origin,
        choice=choice(selection, recipe),
        prompt=prompt,
    )


def _scores(table: Table, metrics: list[str]) -> list[list[str]]:
    """Return a line for each image set of the first noises: its name, steps, cost and metrics."""
    lines = []
    for sampler in ("teacher", ADAPTER, *SOLVERS):
        for cell in table.select(sampler=sampler, metric="clip_score", seeds=0):
            same = {"sampler": sampler, "steps": cell.steps, "guidance": cell.guidance, "seeds": 0}
            line = [sampler_title(sampler, cell.guidance), str(cell.steps), str(cell.nfe)]
            for metric in metrics:
                found = table.select(metric=metric, **same)
                line.append(interval(found[0]) if found else "reference")
            lines.append(line)
    return lines
