"""A recipe that is whole, and the choice of its adapter, for tests that need one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lcm_lora import layout
from lcm_lora.candidates import candidate_name
from lcm_lora.evaluation.selection import JudgedCandidate, Selection
from lcm_lora.files import write_json
from lcm_lora.records import write_record


def recipe_of(weights_sha256: str, **parts: Any) -> dict[str, Any]:
    """Return the recipe of an adapter, both its files with this hash, and with parts of its own."""
    whole = {
        "objective": "lcm",
        "grid": {"points": 1, "skip": 1, "timesteps": [0]},
        "prediction_type": "epsilon",
        "scheduler": {"class": "LCMScheduler", "config": {}},
        "recommended": {"steps": [2, 4, 8], "guidance": 1.0},
        "guidance": {"convention": "imagen", "low": 3.0, "high": 3.0},
        "lora": {"rank": 2, "alpha": 2, "targets": ["to_q"]},
        "base": {"model": "base", "revision": None, "family": "sd1", "sha256": "0", "files": {}},
        "data": {"shards_sha256": "0", "cache_sha256": "0", "samples": 1},
        "step": 1,
        "params": {},
        "hardware": {},
        "versions": {},
        "weights_sha256": weights_sha256,
        "kohya_sha256": weights_sha256,
    }
    return whole | parts


def write_choice(root: Path) -> None:
    """Write the records by which an adapter was the only candidate of its training."""
    write_json(root / layout.CANDIDATES / candidate_name(1) / "recipe.json", recipe_of("weights"))
    only = JudgedCandidate(step=1, value=0.5, se=0.1)
    record = Selection(
        metric="attributes",
        lower_is_better=False,
        steps=4,
        guidance=1.0,
        prompts=8,
        rows=(only,),
        chosen=1,
    )
    write_record(root / layout.SELECTED, record)
