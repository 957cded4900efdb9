"""The page of the transfer evaluation."""

from __future__ import annotations

from lcm_lora import layout
from lcm_lora.files import new_folder
from lcm_lora.mapping.page import transfer_report
from lcm_lora.mapping.subjects import Places
from lcm_lora.params.generate import Generate
from lcm_lora.params.reading import load_section
from lcm_lora.params.report import Report
from lcm_lora.params.transfer import Transfer


def run() -> None:
    """Run the stage in the working folder; without subjects, there is no page."""
    params, out = load_section(layout.PARAMS, Transfer), layout.TRANSFER / "report"
    if not params.subjects:
        with new_folder(out):
            return
    places = Places(
        inventory=layout.INVENTORY / "transfer",
        images=layout.TRANSFER / "images",
        scores=layout.TRANSFER / "scores",
    )
    transfer_report(
        params,
        load_section(layout.PARAMS, Report),
        load_section(layout.PARAMS, Generate).seed,
        places,
        layout.ADAPTER,
        out,
    )
