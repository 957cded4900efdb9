"""The report: one page that works offline, the model card, the table as CSV, figures and grids."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from lcm_lora.evaluation.scores import Table
from lcm_lora.evaluation.selection import Selection, read_selection
from lcm_lora.files import new_folder, write_bytes
from lcm_lora.gate.decision import Decision
from lcm_lora.painting.latencies import Latency, read_latency
from lcm_lora.params.report import Report
from lcm_lora.recipe import Recipe, RecipeBase, read_recipe
from lcm_lora.records import read_record
from lcm_lora.report import figures, galleries, numbers, style, verdict
from lcm_lora.report.card import model_card
from lcm_lora.report.drawing import inline
from lcm_lora.report.foreign import foreign_base
from lcm_lora.report.grids import columns_of, compared_cells, comparison_grid
from lcm_lora.report.judged import read_judged
from lcm_lora.report.legend import legend
from lcm_lora.report.pictures import Pictures, open_pictures
from lcm_lora.report.rules import shown_rules
from lcm_lora.report.templates import render
from lcm_lora.report.tidy import as_csv, tidy
from lcm_lora.training.curve import CURVE, CurveRow, read_curve
from lcm_lora.training.origin import ORIGIN, Origin


@dataclass(frozen=True, slots=True)
class Sources:
    """Where everything is that a report is made from."""

    scores: Path
    decision: Path
    latency: Path
    images: Path
    """Folder of the painters' image sets."""
    features: Path
    """Folder of their features, for what single pictures came to."""
    adapter: Path
    """Folder with the recipe."""
    champion: Path
    """Folder of the champion as it was brought."""
    training: Path
    """Folder with the curve."""
    selection: Path


@dataclass(frozen=True, slots=True)
class _Found:
    """All that was read."""

    table: Table
    decision: Decision
    latency: Latency
    pictures: Pictures
    recipe: Recipe
    foreign: RecipeBase | None
    """The champion's own base, if that is another."""
    origin: Origin
    curve: list[CurveRow]
    selected: Selection


def report(params: Report, sources: Sources, out: Path) -> None:
    """Write the folder `out` from the table and what stands behind it.

    Args:
        params: Title and how many pictures.
        sources: What to read.
        out: Folder to write.

    Raises:
        UserError: Something of this is missing or broken.
    """
    found = _read(sources)
    table = found.table
    # First the pictures: what is missing is said before what takes seconds.
    columns = columns_of(found.pictures, compared_cells(table), params.rows)
    shown = _galleries(params, sources, found)
    drawn = _figures(found)
    page = render("page.html.j2", **shown, **_words(params, found, drawn))
    grid = comparison_grid(columns, found.pictures.captions)
    prompt = found.pictures.captions[0]
    about = (table, found.decision, found.recipe, found.origin, found.selected)
    with new_folder(out) as made:
        write_bytes(made / "index.html", page.encode())
        write_bytes(made / "model_card.md", model_card(params.title, *about, prompt).encode())
        write_bytes(made / "scores.csv", as_csv(table, found.latency).encode())
        write_bytes(made / "grid.png", _png(grid))
        for name, svg in drawn.items():
            write_bytes(made / "figures" / f"{name}.svg", svg.encode())


def _read(sources: Sources) -> _Found:
    mend = "run `lcm-lora distill`"
    recipe = read_recipe(sources.adapter)
    table, decision = read_judged(sources.scores, sources.decision, recipe)
    return _Found(
        table,
        decision,
        read_latency(sources.latency),
        open_pictures(sources.images, table),
        recipe,
        foreign_base(table, recipe, sources.champion),
        read_record(sources.training / ORIGIN, Origin, mend),
        read_curve(sources.training / CURVE, mend),
        read_selection(sources.selection),
    )


def _galleries(params: Report, sources: Sources, found: _Found) -> dict[str, Any]:
    """Return the pictures that the page's template takes."""
    pictures, decision = found.pictures, found.decision
    half = max(1, params.worst // 2)
    better, worse = galleries.contrasts(pictures, sources.features, decision, half)
    return {
        "side_by_side": galleries.side_by_side(pictures, params.rows),
        "rivals": galleries.rivals(pictures, params.rows),
        "noises": galleries.noises(pictures, params.rows),
        "worst": galleries.worst_pictures(pictures, sources.features, decision, params.worst),
        "better": better,
        "worse": worse,
    }


def _figures(found: _Found) -> dict[str, str]:
    """Return the figures that are files of their own."""
    table, metrics = found.table, verdict.drawn_metrics(found.table, found.decision)
    axes = {"steps": figures.STEPS, "evaluations": figures.EVALUATIONS}
    return {
        **{
            f"quality_by_{name}": figures.quality(table, metrics, axis)
            for name, axis in axes.items()
        },
        "training": figures.training_curve(found.curve),
        "candidates": figures.candidates_by_step(found.selected),
    }


def _words(params: Report, found: _Found, drawn: dict[str, str]) -> dict[str, Any]:
    """Return all else that the page's template takes."""
    table, decision = found.table, found.decision
    return {
        "title": params.title,
        "table": table,
        "decision": decision,
        "latency": found.latency,
        "recipe": found.recipe,
        "foreign": found.foreign,
        "origin": found.origin,
        "selected": found.selected,
        "verdict": verdict,
        "numbers": numbers,
        "style": style,
        "marks": style.marks(table),
        "cells": {cell.id: cell for cell in table.cells},
        "chosen": verdict.judged_cell(table, decision),
        "gain": verdict.best_gain(table, decision),
        "teacher": verdict.teacher_cell(table),
        "rules": shown_rules(table, decision),
        "judged": verdict.judged_metrics(table, decision),
        "legend": legend(figures.quality_lines(table)),
        "panels_of": _panels(found),
        "sweep_legend": legend(figures.sweep_lines(table)),
        "sweep": _sweep(found),
        "training": {name: inline(drawn[name], name) for name in ("training", "candidates")},
        "rows": list(tidy(table)),
        "csv": base64.b64encode(as_csv(table, found.latency).encode()).decode(),
    }


def _panels(found: _Found) -> dict[str, list[tuple[str, Markup]]]:
    """Return (title, figure) of each metric, by what it is drawn against."""
    axes = {
        "steps": figures.STEPS,
        "evaluations": figures.EVALUATIONS,
        "latency": figures.latency_axis(found.latency),
    }
    metrics = verdict.drawn_metrics(found.table, found.decision)
    return {
        name: [
            (
                metric.title,
                inline(figures.quality_panel(found.table, metric, axis), f"{name}-{i}"),
            )
            for i, metric in enumerate(metrics)
        ]
        for name, axis in axes.items()
    }


def _sweep(found: _Found) -> list[tuple[str, Markup]]:
    """Return (title, figure) of each judged metric against guidance; none where none was varied."""
    lines = figures.sweep_lines(found.table)
    metrics = verdict.drawn_metrics(found.table, found.decision) if lines else []
    return [
        (
            metric.title,
            inline(figures.sweep_panel(found.table, metric, lines, figures.GUIDANCE), f"sweep-{i}"),
        )
        for i, metric in enumerate(metrics)
    ]


def _png(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()
