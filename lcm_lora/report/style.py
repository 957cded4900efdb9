"""Names, colours and marks that figures, grids and the page share.

Colours are those of Okabe and Ito, which colour-blind readers can tell apart; each painter has a
mark of its own beside.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lcm_lora.evaluation.scores import CellRecord, Table
from lcm_lora.params.generate import ADAPTER, CHAMPION, REAL, TEACHER, Cell

INK = "#1c2127"
"""Of text and axes in figures; a page replaces it by its own colour of text."""

PAPER = "#ffffff"
"""Under figures; a page shows its own through."""

TINY = 64
"""Pictures up to this side are shown exactly, enlarged by whole numbers without smoothing."""

_TITLES = {
    TEACHER: "Teacher",
    ADAPTER: "New adapter",
    CHAMPION: "Champion",
    REAL: "Real pictures",
    "lcm": "LCM",
    "ddim": "DDIM",
    "dpmpp": "DPM++",
    "unipc": "UniPC",
    "euler": "Euler",
    "tcd": "TCD",
}

_GREY = "#7a828c"

COLOURS = {TEACHER: _GREY, REAL: _GREY, ADAPTER: "#d55e00", CHAMPION: "#1b80c4"}
"""Of the roles."""

_OTHERS = ("#009e73", "#c2649a", "#56b4e9", "#c48a00")
_SHAPES = ("s", "^", "v", "P", "X")
"""Of matplotlib; with four colours, twenty painters can be told apart."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How a painter is shown everywhere."""

    title: str
    colour: str
    shape: str
    """Of its points, as matplotlib names it."""


def marks(table: Table) -> dict[str, Mark]:
    """Return the mark of every painter of a table; roles have their own, others take turns."""
    painters = dict.fromkeys(cell.painter for cell in table.cells)
    roles = {
        name: Mark(painter_title(name), colour, "D" if name == CHAMPION else "o")
        for name, colour in COLOURS.items()
    }
    others = {
        name: Mark(painter_title(name), _OTHERS[i % len(_OTHERS)], _SHAPES[i % len(_SHAPES)])
        for i, name in enumerate(name for name in painters if name not in roles)
    }
    return roles | others


def painter_title(painter: str) -> str:
    """Return a painter's name for people: its role's, its sampler's, or its own."""
    return _TITLES.get(painter, painter)


def cell_title(cell: CellRecord) -> str:
    """Return a cell's name for people, such as `DDIM, 4 steps, guidance 3`."""
    if cell.painter == REAL:
        return _TITLES[REAL]
    return ", ".join([painter_title(cell.painter), how_title(cell)])


def how_title(cell: CellRecord | Cell) -> str:
    """Return how a cell was painted: its steps, and guidance and noise where they are not plain."""
    parts = [steps_title(cell.steps)]
    if cell.guidance != 1:
        parts.append(f"guidance {cell.guidance:g}")
    if cell.seeds:
        parts.append(f"noise {cell.seeds}")
    return ", ".join(parts)


def steps_title(steps: int) -> str:
    """Return a number of steps in words."""
    return f"{steps} step" if steps == 1 else f"{steps} steps"


def listed(words: Iterable[str]) -> str:
    """Return words with commas and an `and`."""
    *first, last = words
    return " and ".join(filter(None, [", ".join(first), last]))
