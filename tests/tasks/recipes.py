"""A recipe that is whole, for tests that need an adapter."""

from __future__ import annotations

from typing import Any


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
