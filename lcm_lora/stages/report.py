"""Figures, grids, the page and the model card."""

from __future__ import annotations

from lcm_lora import layout
from lcm_lora.params.reading import load_section
from lcm_lora.params.report import Report
from lcm_lora.report.page import Sources, report


def run() -> None:
    """Run the stage in the working folder."""
    sources = Sources(
        layout.SCORES,
        layout.DECISION,
        layout.LATENCY,
        layout.IMAGES,
        layout.FEATURES,
        layout.ADAPTER,
        layout.CHAMPION,
        layout.TRAINING,
        layout.SELECTED,
    )
    report(load_section(layout.PARAMS, Report), sources, layout.REPORT)
