"""Image sets of all who paint in a subject of the transfer evaluation."""

from __future__ import annotations

from lcm_lora import layout
from lcm_lora.data.picture_sets import read_set
from lcm_lora.errors import one_of
from lcm_lora.hashes import Hashes
from lcm_lora.params.generate import Generate
from lcm_lora.params.hardware import Hardware
from lcm_lora.params.reading import load_section
from lcm_lora.params.transfer import Transfer
from lcm_lora.stages.generate import PLACES
from lcm_lora.stages.pieces import open_pieces
from lcm_lora.transfer.painters import read_painters


def run(subject: str) -> None:
    """Run the stage in the working folder; what is missing is said before anything heavy loads."""
    params, shared = load_section(layout.PARAMS, Transfer), load_section(layout.PARAMS, Generate)
    hardware = load_section(layout.PARAMS, Hardware)
    subject = one_of(subject, params.subjects)
    read_set(layout.EVALUATION, "real")
    with Hashes(layout.HASHES) as hashes:
        pieces = open_pieces("generate", hashes)
        painters = read_painters(subject, params, PLACES, hashes)
        from lcm_lora.painting.sets import read_theme
        from lcm_lora.transfer.painting import paint_subject

        theme = read_theme(shared, layout.EVALUATION, params.prompts)
        out = layout.TRANSFER / "images" / subject
        paint_subject(subject, painters, theme, hardware, pieces, out)
