"""How every figure looks: one style, SVG of equal bytes each time, and at home within a page."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from lcm_lora.report.style import INK, PAPER

STYLE: Any = {
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "svg.hashsalt": "lcm-lora",  # else element ids are random
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}
"""Of matplotlib."""

_LETTERS = 33
"""Of a title, for which a panel as wide as a phone has room."""


def entitle(axes: Axes, title: str) -> None:
    """Write a panel's title; a long one smaller, so that it is seen whole."""
    size = STYLE["axes.titlesize"] * min(1.0, _LETTERS / len(title))
    axes.set_title(textwrap.shorten(title, 44, placeholder=" …"), fontsize=size)


def single(draw: Callable[[Axes], None]) -> str:
    """Draw one panel as wide as a phone."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.9, 2.9))
        figure.subplots_adjust(left=0.19, right=0.97, top=0.9, bottom=0.17)
        draw(figure.subplots())
        return svg(figure)


def svg(figure: Figure) -> str:
    """Return a figure as SVG, the same bytes each time."""
    text = io.StringIO()
    FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None, "Creator": None})
    return text.getvalue()


def inline(svg: str, name: str) -> Markup:
    """Return an SVG for use within a page: in the page's colours, with ids of its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg.replace(INK, "currentColor").replace(f"fill: {PAPER}", "fill: none")
    # Several figures in one page must not share ids.
    svg = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    return Markup(svg)
