"""Feature vectors and per-picture scores of image sets, painted or real."""

from __future__ import annotations

from lcm_lora import layout
from lcm_lora.errors import one_of
from lcm_lora.evaluation.image_sets import generated_sets, real_sets
from lcm_lora.params.generate import SAMPLERS
from lcm_lora.params.hardware import Hardware
from lcm_lora.params.reading import load_section
from lcm_lora.params.score import Score


def run(name: str) -> None:
    """Run the stage in the working folder; what is missing is said before anything heavy loads."""
    name = one_of(name, [*SAMPLERS, "real"])
    score, hardware = load_section(layout.PARAMS, Score), load_section(layout.PARAMS, Hardware)
    is_real = name == "real"
    sets = real_sets(layout.EVALUATION) if is_real else generated_sets(layout.IMAGES / name, name)
    from lcm_lora.device import pick_device
    from lcm_lora.evaluation.features import features

    features(score, name, sets, layout.FEATURES / name, str(pick_device(hardware)))
