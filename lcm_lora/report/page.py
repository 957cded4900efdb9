"""The report: one page that works offline, the model card, the table as CSV, figures and a grid."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from lcm_lora.errors import UserError
from lcm_lora.evaluation.cells import read_features
from lcm_lora.evaluation.image_sets import (
    CAPTIONS,
    captions_of,
    captions_sha256,
    read_pictures,
)
from lcm_lora.evaluation.resampling import Z
from lcm_lora.evaluation.selection import read_selection
from lcm_lora.evaluation.table import ADAPTER, Pair, Row, Table, load_table
from lcm_lora.files import new_folder, write_bytes
from lcm_lora.params.generate import Cell
from lcm_lora.params.report import Report
from lcm_lora.recipe import read_recipe
from lcm_lora.records import read_record
from lcm_lora.report import style, verdict
from lcm_lora.report.card import model_card
from lcm_lora.report.figures import (
    candidates_by_step,
    quality_by_evaluations,
    quality_by_steps,
    training_curve,
)
from lcm_lora.report.grids import DARK, comparison_columns, comparison_grid, tar_of
from lcm_lora.report.templates import render
from lcm_lora.training.curve import CURVE, read_curve
from lcm_lora.training.origin import ORIGIN, Origin


def report(
    params: Report,
    scores: Path,
    images: Path,
    features: Path,
    adapter: Path,
    training: Path,
    selection: Path,
    out: Path,
) -> None:
    """Write the folder `out` from the table and what stands behind it.

    Args:
        params: Title and how many pictures.
        scores: The table, a file.
        images: Folder of the samplers' image sets.
        features: Folder of their features, for the worst pictures.
        adapter: Folder with the recipe.
        training: Folder with the curve.
        selection: Which candidate was chosen, a file.
        out: Folder to write.

    Raises:
        UserError: Something of this is missing or broken.
    """
    table = load_table(scores)
    mend = "run `lcm-lora distill`"
    recipe, origin = read_recipe(adapter), read_record(training / ORIGIN, Origin, mend)
    curve, selected = read_curve(training / CURVE, mend), read_selection(selection)
    captions = _captions(images / ADAPTER, table)
    columns = comparison_columns(table, images, params.rows)
    figures = {
        "quality_by_steps": quality_by_steps(table),
        "quality_by_evaluations": quality_by_evaluations(table),
        "training": training_curve(curve),
        "candidates": candidates_by_step(selected),
    }
    grid = comparison_grid(columns, captions)
    page = render(
        "page.html.j2",
        title=params.title,
        table=table,
        recipe=recipe,
        origin=origin,
        selected=selected,
        verdict=verdict,
        style=style,
        z=Z,
        figures={name: _inline(svg, name) for name, svg in figures.items()},
        grid=_data_url(grid),
        dark_grid=_data_url(comparison_grid(columns, captions, DARK)),
        grid_size=grid.size,
        grid_rows=len(columns[0].pictures),
        worst=_worst(table, images, features, params.worst, captions),
        pairs=_by_metric(table),
    )
    card = model_card(params.title, table, recipe, origin, selected, captions[0])
    with new_folder(out) as made:
        write_bytes(made / "index.html", page.encode())
        write_bytes(made / "model_card.md", card.encode())
        write_bytes(made / "scores.csv", _csv(table).encode())
        write_bytes(made / "grid.png", _png(grid))
        for name, svg in figures.items():
            write_bytes(made / "figures" / f"{name}.svg", svg.encode())


def worst_pictures(clip: np.ndarray[Any, Any], attributes: Any, count: int) -> list[int]:
    """Return the indices of the worst pictures: wrong attributes first, then least CLIP score."""
    right = np.zeros(len(clip)) if attributes is None else np.asarray(attributes)
    return [int(i) for i in np.lexsort((clip, right))[:count]]


def _captions(folder: Path, table: Table) -> tuple[str, ...]:
    """Return the captions of the adapter's pictures, which must be those that were scored."""
    captions = captions_of(folder)
    if captions_sha256(captions) != table.protocol["captions_sha256"]:
        raise UserError(
            f"{folder / CAPTIONS}: not the captions that were scored; run"
            f" `lcm-lora generate {ADAPTER}`, `lcm-lora features {ADAPTER}` and `lcm-lora score`"
        )
    return captions


def _worst(
    table: Table, images: Path, features: Path, count: int, captions: Sequence[str]
) -> list[dict[str, Any]]:
    row = verdict.recommended(table)
    cell = Cell(steps=row.steps, guidance=row.guidance, seeds=row.seeds)
    found = read_features(features / ADAPTER / f"{cell.name}.safetensors")
    indices = worst_pictures(found.clip, found.attributes, count)
    return [
        {
            "picture": _data_url(picture),
            "size": picture.size,
            "caption": captions[i],
            "clip": found.clip[i],
            "is_right": None if found.attributes is None else bool(found.attributes[i]),
        }
        for i, picture in zip(indices, read_pictures(tar_of(images, row), indices), strict=True)
    ]


def _by_metric(table: Table) -> dict[str, list[tuple[Pair, Row, Row]]]:
    """Return (pair, the adapter's row, the solver's row) of each metric, cheapest first."""
    found: dict[str, list[tuple[Pair, Row, Row]]] = {}
    for pair in sorted(table.paired, key=lambda pair: pair.nfe):
        a, b = (
            table.select(metric=pair.metric, seeds=0, **side.model_dump())[0]
            for side in (pair.a, pair.b)
        )
        found.setdefault(pair.metric, []).append((pair, a, b))
    return found


def _csv(table: Table) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(Row.model_fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.model_dump() for row in table.rows)
    return text.getvalue()


def _inline(svg: str, name: str) -> Markup:
    """Return an SVG for use within a page: in the page's colours, with ids of its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg.replace(style.INK, "currentColor").replace(f"fill: {style.PAPER}", "fill: none")
    # Several figures in one page must not share ids.
    svg = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    return Markup(svg)


def _data_url(picture: Image.Image) -> str:
    return f"data:image/png;base64,{base64.b64encode(_png(picture)).decode()}"


def _png(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()
