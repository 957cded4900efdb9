"""The page of the transfer evaluation."""

from __future__ import annotations

from lcm_lora import layout
from lcm_lora.mapping.page import transfer_report
from lcm_lora.mapping.subjects import Places
from lcm_lora.params.generate import Generate
from lcm_lora.params.reading import load_section
from lcm_lora.params.report import Report
from lcm_lora.params.transfer import Transfer


def run() -> None:
    """Run the stage in the working folder."""
    places = Places(
        inventory=layout.INVENTORY / "transfer",
        images=layout.TRANSFER / "images",
        scores=layout.TRANSFER / "scores",
    )
    transfer_report(
        load_section(layout.PARAMS, Transfer),
        load_section(layout.PARAMS, Report),
        load_section(layout.PARAMS, Generate).seed,
        places,
        layout.ADAPTER,
        layout.TRANSFER / "report",
    )
