"""Feature vectors and per-picture scores of image sets, painted or real."""

from __future__ import annotations

from lcm_lora import layout
from lcm_lora.errors import one_of
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.networks import read_networks
from lcm_lora.params.generate import REAL, Generate
from lcm_lora.params.hardware import Hardware
from lcm_lora.params.reading import load_section
from lcm_lora.params.score import Score
from lcm_lora.seeing.image_sets import generated_sets, real_sets
from lcm_lora.stages.pieces import open_pieces


def run(name: str) -> None:
    """Run the stage in the working folder; what is missing is said before anything heavy loads."""
    painters = load_section(layout.PARAMS, Generate).names
    name = one_of(name, [*painters, REAL])
    score, hardware = load_section(layout.PARAMS, Score), load_section(layout.PARAMS, Hardware)
    folder = layout.IMAGES / name
    sets = real_sets(layout.EVALUATION) if name == REAL else generated_sets(folder, name)
    with Hashes(layout.HASHES) as hashes:
        pieces = open_pieces("features", hashes)
        networks = read_networks(layout.INVENTORY / "networks.json", score, hashes)
        from lcm_lora.device import pick_device
        from lcm_lora.seeing.features import Job, features

        job = Job(score, networks, pick_device(hardware), pieces, hashes)
        features(job, name, sets, layout.FEATURES / name)
