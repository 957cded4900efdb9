"""The best of the candidates that a training left."""

from __future__ import annotations

from lcm_lora import layout
from lcm_lora.candidates import find_candidates
from lcm_lora.data.picture_sets import read_set
from lcm_lora.evaluation.names import selection_metric
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base import read_base
from lcm_lora.inventory.networks import read_networks
from lcm_lora.params.hardware import Hardware
from lcm_lora.params.reading import load_section
from lcm_lora.params.score import Score
from lcm_lora.params.select import Select


def run() -> None:
    """Run the stage in the working folder; what is missing is said before anything heavy loads."""
    params, score = load_section(layout.PARAMS, Select), load_section(layout.PARAMS, Score)
    hardware = load_section(layout.PARAMS, Hardware)
    read_set(layout.SELECTION, "selection")
    candidates = find_candidates(layout.CANDIDATES)
    for candidate in candidates:
        candidate.recipe()
    with Hashes(layout.HASHES) as hashes:
        found = read_base(layout.INVENTORY / "base.json", hashes)
        networks = read_networks(layout.INVENTORY / "networks.json", score, hashes)
    metric = selection_metric(score, params.metric)
    from lcm_lora.bases import load_base
    from lcm_lora.selecting import select

    base = load_base(found, hardware)
    select(
        params,
        metric,
        networks,
        base,
        candidates,
        layout.SELECTION,
        layout.ADAPTER,
        layout.SELECTED,
    )
