"""Image sets of one painter, for the captions of the evaluation set."""

from __future__ import annotations

from lcm_lora import layout
from lcm_lora.data.picture_sets import read_set
from lcm_lora.errors import one_of
from lcm_lora.hashes import Hashes
from lcm_lora.painting.subject import Places, subject_of
from lcm_lora.params.generate import Generate
from lcm_lora.params.hardware import Hardware
from lcm_lora.params.reading import load_section
from lcm_lora.stages.pieces import open_pieces

PLACES = Places(layout.INVENTORY, layout.ADAPTER, layout.CHAMPION)


def run(name: str) -> None:
    """Run the stage in the working folder; what is missing is said before anything heavy loads."""
    params = load_section(layout.PARAMS, Generate)
    hardware = load_section(layout.PARAMS, Hardware)
    name = one_of(name, params.names)
    read_set(layout.EVALUATION, "real")
    with Hashes(layout.HASHES) as hashes:
        pieces = open_pieces("generate", hashes)
        subject = subject_of(name, params, PLACES, hashes)
        from lcm_lora.painting.sets import generate, read_theme
        from lcm_lora.painting.studio import Studio

        studio = Studio(subject, hardware) if subject else None
        theme = read_theme(params, layout.EVALUATION)
        out = layout.IMAGES / name
        generate(name, params.painter(name), theme, studio, pieces, out)
