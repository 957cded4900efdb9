"""Features to one table of scores, with errors and paired differences."""

from __future__ import annotations

from lcm_lora import layout
from lcm_lora.champion_record import read_champion
from lcm_lora.evaluation.cells import Compared
from lcm_lora.evaluation.table import score
from lcm_lora.params.generate import Generate
from lcm_lora.params.reading import load_section
from lcm_lora.params.score import Score


def run() -> None:
    """Run the stage in the working folder."""
    params, generate = load_section(layout.PARAMS, Score), load_section(layout.PARAMS, Generate)
    compared = Compared.of(generate, layout.FEATURES)
    score(params, compared, read_champion(layout.CHAMPION), layout.SCORES)
