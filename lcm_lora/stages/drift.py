"""New training data against those of before."""

from __future__ import annotations

import sys
from pathlib import Path

from lcm_lora import layout
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.networks import read_networks
from lcm_lora.params.file import load_params
from lcm_lora.records import write_record


def run(before: Path, now: Path, out: Path) -> None:
    """Compare two folders of training shards, write the record `out`, and say what came out."""
    params = load_params(layout.PARAMS)
    with Hashes(layout.HASHES) as hashes:
        networks = read_networks(layout.INVENTORY / "networks.json", params.score, hashes)
    from lcm_lora.device import pick_device
    from lcm_lora.drift.check import check

    device = pick_device(params.hardware)
    found = check(before, now, params.drift, params.score.level, networks, device)
    write_record(out, found)
    for quantity in found.quantities:
        said = f"{quantity.value:.3g}, {quantity.low:.3g} to {quantity.high:.3g}"
        verdict = "drifted" if quantity.has_drifted else "within"
        sys.stderr.write(f"{quantity.name}: {said}; {verdict} {quantity.margin:g}\n")
    sys.stderr.write(f"{found.words}\n")
