"""The page of the transfer evaluation: one file that works offline, its table as CSV, its maps."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from lcm_lora.data.pictures import encoded
from lcm_lora.files import new_folder, write_bytes
from lcm_lora.mapping import galleries, standing, words
from lcm_lora.mapping.figures import draw_map
from lcm_lora.mapping.subjects import Places, Tried, read_tried
from lcm_lora.params.report import Report
from lcm_lora.params.transfer import Transfer
from lcm_lora.recipe import Recipe, read_recipe
from lcm_lora.report import numbers, style
from lcm_lora.report.drawing import inline
from lcm_lora.report.templates import render
from lcm_lora.report.tidy import COLUMNS, csv_of, lines_of
from lcm_lora.report.verdict import evaluations, teacher_cell

_TEMPLATES = Path(__file__).parent / "templates"
_MAPS = 4
"""Metrics that are drawn over the weights: one row of a page; the table beside has all."""
_COLUMNS = ("subject", "acceleration", "style", *COLUMNS)


def transfer_report(
    params: Transfer, shown: Report, seed: int, places: Places, adapter: Path, out: Path
) -> None:
    """Write the folder `out`: the page, all numbers, a grid of pictures, and the maps' figures.

    Args:
        params: Who was tried.
        shown: Title and how many pictures.
        seed: Of the noise that all start from.
        places: Where everything is.
        adapter: Folder with the recipe of the new adapter.
        out: Folder to write.

    Raises:
        UserError: There is no subject; or something of one is missing or broken.
    """
    every = read_tried(params, places)
    recipe = read_recipe(adapter)
    # First the pictures: what is missing is said before what takes seconds.
    pictures = {tried.name: _pictures(tried, shown.rows) for tried in every}
    overview = galleries.grid(words.elsewhere(every) or every)
    drawn = {tried.name: _maps(tried) for tried in every}
    table = csv_of(_COLUMNS, (line for tried in every for line in _lines(tried)))
    page = render(
        "transfer.html.j2",
        _TEMPLATES,
        **_words(params, shown, every, recipe),
        seed=seed,
        pictures=pictures,
        panels_of={name: _inlined(name, maps) for name, maps in drawn.items()},
        csv=base64.b64encode(table.encode()).decode(),
    )
    with new_folder(out) as made:
        write_bytes(made / "index.html", page.encode())
        write_bytes(made / "scores.csv", table.encode())
        write_bytes(made / "grid.png", encoded(overview, None))
        for name, maps in drawn.items():
            for metric, svg in maps.items():
                file = f"{name}_{metric.replace(':', '-')}.svg"
                write_bytes(made / "figures" / file, svg.encode())


def _pictures(tried: Tried, rows: int) -> dict[str, Any]:
    return {"band": galleries.band(tried, rows), "maps": galleries.picture_maps(tried)}


def _maps(tried: Tried) -> dict[str, str]:
    """Return the figure of each metric over the map, by the metric's name."""
    able = [metric for metric in tried.metrics if tried.rows(metric)]
    return {metric.name: draw_map(tried, metric) for metric in able[:_MAPS]}


def _inlined(name: str, maps: dict[str, str]) -> dict[str, Markup]:
    return {metric: inline(svg, f"{name}-{i}") for i, (metric, svg) in enumerate(maps.items())}


def _words(
    params: Transfer, shown: Report, every: Sequence[Tried], recipe: Recipe
) -> dict[str, Any]:
    """Return what the template says beside pictures and figures."""
    judged, away = words.judged(every), words.elsewhere(every) or every
    asked = words.judged(away)
    return {
        "title": shown.title,
        "params": params,
        "every": every,
        "away": away,
        "recipe": recipe,
        "judged": judged,
        "heading": words.heading(asked),
        "mood": words.mood(asked),
        "counts": words.counts(away),
        "behind": words.behind(asked),
        "losses": words.losses(away),
        "verdicts": words.by_verdict,
        "bar": words.bar,
        "apart": words.apart,
        "standing": standing,
        "numbers": numbers,
        "style": style,
        "evaluations": evaluations,
        "teacher_cell": teacher_cell,
    }


def _lines(tried: Tried) -> Iterator[dict[str, Any]]:
    """Yield every number of a subject, with the weights that it was painted with."""
    mixes = {point.cell.id: point.mix for point in tried.points}
    for line in lines_of(tried.table):
        mix = mixes.get(line["cell"])
        weights = mix._asdict() if mix else {}
        yield {"subject": tried.name, **weights, **line}
