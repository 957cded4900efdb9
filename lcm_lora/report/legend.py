"""The legend of the page's figures: each line as it is drawn, small, beside its name."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from lcm_lora.report.figures import Line

_PATHS = {
    "o": "M16 2 a4 4 0 1 0 .01 0z",
    "s": "M12 2h8v8h-8z",
    "^": "M16 1l5 9h-10z",
    "v": "M16 11l5 -9h-10z",
    "D": "M16 1l5 5-5 5-5-5z",
    "P": "M14 1h4v3h3v4h-3v3h-4v-3h-3v-4h3z",
    "X": "M12 1l4 3 4-3 1.5 1.5-3 3.5 3 3.5-1.5 1.5-4-3-4 3-1.5-1.5 3-3.5-3-3.5z",
}
"""Paths of matplotlib's marks, in a box of 32 by 12."""


def legend(lines: Sequence[Line]) -> Markup:
    """Return the entries of lines as items of an HTML list, the adapter first."""
    return Markup("\n").join(_entry(line) for line in reversed(lines))


def _entry(line: Line) -> Markup:
    dash = Markup(' stroke-dasharray="4 3"') if line.is_plain else Markup("")
    fill = "var(--paper)" if line.is_plain else line.mark.colour
    return Markup(
        '<li><svg viewBox="0 0 32 12" width="32" height="12" aria-hidden="true">'
        '<path d="M0 6h32" stroke="{0}" stroke-width="{1}"{2}/>'
        '<path d="{3}" fill="{4}" stroke="{0}" stroke-width="1.3"/></svg>{5}</li>'
    ).format(
        line.mark.colour,
        "2.6" if line.is_first else "1.4",
        dash,
        _PATHS[line.mark.shape],
        fill,
        escape(line.label),
    )
