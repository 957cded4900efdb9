"""Feature vectors and per-picture scores of all image sets of a subject, and of real pictures."""

from __future__ import annotations

from lcm_lora import layout
from lcm_lora.errors import one_of
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.networks import read_networks
from lcm_lora.params.generate import REAL
from lcm_lora.params.hardware import Hardware
from lcm_lora.params.reading import load_section
from lcm_lora.params.score import Score
from lcm_lora.params.transfer import Transfer
from lcm_lora.seeing.image_sets import generated_sets, real_sets
from lcm_lora.stages.pieces import open_pieces
from lcm_lora.transfer.claimant import claimant


def run(subject: str) -> None:
    """Run the stage in the working folder; what is missing is said before anything heavy loads."""
    params, hardware = load_section(layout.PARAMS, Transfer), load_section(layout.PARAMS, Hardware)
    subject = one_of(subject, params.subjects)
    score, looks = load_section(layout.PARAMS, Score), params.subjects[subject].looks
    images, command = layout.TRANSFER / "images" / subject, f"lcm-lora transfer {subject}"
    sets = {REAL: [images.first(params.prompts) for images in real_sets(layout.EVALUATION)]}
    for painter in params.names(subject):
        sets[painter] = generated_sets(images / painter, painter, command)
    with Hashes(layout.HASHES) as hashes:
        pieces = open_pieces("features", hashes)
        seen = layout.INVENTORY / "transfer-networks" / f"{subject}.json"
        networks = read_networks(seen, score, hashes, looks=looks)
        from lcm_lora.device import pick_device
        from lcm_lora.seeing.features import Job, features_of_all

        job = Job(score, networks, pick_device(hardware), pieces, hashes)
        out = layout.TRANSFER / "features" / subject
        features_of_all(job, claimant(subject), f"transfer-features {subject}", sets, out)
