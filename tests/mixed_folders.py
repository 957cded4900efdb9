"""Write a pipeline as a folder whose parts are stored each in a way of its own."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Form = str
"""Words of: `shards` (several files), `half` (the fp16 variant), `both` (half beside plain)."""


def save_mixed(pipeline: Any, folder: Path, **forms: Form) -> Path:
    """Write a pipeline; a part that is not named is stored plain, in one file."""
    pipeline.save_pretrained(folder)
    for part, form in forms.items():
        network = getattr(pipeline, part)
        (single,) = (folder / part).glob("*.safetensors")
        if "both" not in form:
            single.unlink()
        how: dict[str, Any] = {"max_shard_size": "20KB"} if "shards" in form else {}
        if "half" in form or "both" in form:
            network, how["variant"] = copy.deepcopy(network).half(), "fp16"
        network.save_pretrained(folder / part, **how)
        if "shards" in form:
            assert len(list((folder / part).glob("*-of-*"))) > 1
    return folder


def stored(pipeline: Any, **forms: Form) -> dict[str, Tensor]:
    """Return the weights that loading such a folder gives, in float32, by part and name."""
    found = {}
    for part, network in networks(pipeline).items():
        is_half = "half" in forms.get(part, "")
        for name, value in network.state_dict().items():
            is_rounded = is_half and value.is_floating_point()
            found[f"{part}.{name}"] = value.half().float() if is_rounded else value
    return found


def networks(pipeline: Any) -> dict[str, torch.nn.Module]:
    """Return the parts of a pipeline that have weights."""
    parts = pipeline.components.items()
    return {part: module for part, module in parts if isinstance(module, torch.nn.Module)}


def weights(pipeline: Any) -> dict[str, Tensor]:
    """Return all weights of a pipeline, by part and name."""
    return stored(pipeline)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Tell whether two sets of weights are equal, bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(v, other[n]) for n, v in one.items())
