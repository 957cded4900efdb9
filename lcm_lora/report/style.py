"""Names and colours that figures, grids and the page share.

Colours are those of Okabe and Ito, which colour-blind readers can tell apart.
"""

from __future__ import annotations

NAMES = {
    "teacher": "Teacher",
    "lcm": "LCM-LoRA",
    "ddim": "DDIM",
    "dpmpp": "DPM++",
    "unipc": "UniPC",
    "real": "Real pictures",
}

COLOURS = {
    "teacher": "#7a828c",
    "lcm": "#d55e00",
    "ddim": "#1b80c4",
    "dpmpp": "#009e73",
    "unipc": "#c2649a",
    "real": "#7a828c",
}

INK = "#1c2127"
"""Of text and axes in figures; a page replaces it by its own colour of text."""

PAPER = "#ffffff"
"""Under figures; a page shows its own through."""


def sampler_title(sampler: str, guidance: float) -> str:
    """Return a sampler's name, with whether it is guided where that is a choice."""
    if sampler in {"teacher", "lcm", "real"}:
        return NAMES[sampler]
    return f"{NAMES[sampler]}, {'guided' if guidance > 1 else 'plain'}"


def metric_title(metric: str) -> str:
    """Return what a metric measures, in words."""
    if metric == "clip_score":
        return "CLIP score"
    if metric == "attributes":
        return "Pictures that show all they should"
    kind, _, reference = metric.partition(":")
    distance = "Kernel distance" if kind.startswith("kid") else "Fréchet distance"
    return f"{distance} to {'real pictures' if reference == 'real' else 'the teacher'} ({kind})"


def number(value: float) -> str:
    """Return a value with three significant digits, never in powers of ten."""
    if value == 0:
        return "0"
    digits = 3
    while digits > 0 and abs(value) >= 10 ** (3 - digits) * 0.9995:
        digits -= 1
    return f"{value:.{max(digits, 0)}f}".replace("-", "\N{MINUS SIGN}")


def steps_title(steps: int) -> str:
    """Return a number of steps in words."""
    return f"{steps} step" if steps == 1 else f"{steps} steps"
