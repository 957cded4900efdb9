"""All of a run that must survive a kill: adapter, optimiser, loss scale, step and curve.

A checkpoint is a folder named by its step inside one named by the run's identity, so that a run
with other parameters or other data never resumes from it. Safetensors and JSON only.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lcm_lora.files import new_folder, write_json


@dataclass(slots=True)
class State:
    """Where a run stands: named trainable parameters, their optimiser, and the steps done."""

    parameters: dict[str, nn.Parameter]
    optimiser: torch.optim.Optimizer
    scaler: Any
    """Loss scaler of fp16 runs, else None."""
    step: int = 0
    """Optimiser steps done."""
    curve: list[dict[str, float]] = field(default_factory=list)
    """One row a step, from the first."""


def identity(parts: Mapping[str, Any]) -> str:
    """Return a short hash of everything that decides what a run computes."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def save(state: State, folder: Path) -> None:
    """Write a checkpoint into `folder` and delete the older ones."""
    with new_folder(folder / f"step-{state.step:08d}") as made:
        save_file(_tensors(state), made / "state.safetensors")
        scaler = state.scaler.state_dict() if state.scaler else None
        write_json(made / "state.json", {"scaler": scaler, "curve": state.curve})
    for older in sorted(folder.glob("step-*"))[:-1]:
        shutil.rmtree(older)


def keep_only(folder: Path) -> None:
    """Delete the checkpoints of every run but the one in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for other in folder.parent.iterdir():
        if other.is_dir() and other != folder:
            shutil.rmtree(other)


def restore(state: State, folder: Path, steps: int) -> bool:
    """Put `state` where the newest checkpoint of `folder` left it, unless that is past `steps`.

    Returns:
        Whether there was such a checkpoint.
    """
    checkpoints = sorted(folder.glob("step-*"))
    if not checkpoints or int(checkpoints[-1].name.removeprefix("step-")) > steps:
        return False
    tensors = load_file(checkpoints[-1] / "state.safetensors")
    record = json.loads((checkpoints[-1] / "state.json").read_text())
    with torch.no_grad():
        for name, parameter in state.parameters.items():
            parameter.copy_(tensors[f"weight/{name}"])
            state.optimiser.state[parameter] = {
                "step": tensors[f"step/{name}"],
                **{
                    moment: torch.empty_like(parameter).copy_(tensors[f"{moment}/{name}"])
                    for moment in ("exp_avg", "exp_avg_sq")
                },
            }
    if state.scaler:
        state.scaler.load_state_dict(record["scaler"])
    state.curve[:] = record["curve"]
    state.step = len(state.curve)
    return True


def _tensors(state: State) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, parameter in state.parameters.items():
        moments = state.optimiser.state[parameter]
        named = {"weight": parameter.detach(), **moments}
        tensors |= {f"{kind}/{name}": value.cpu().contiguous() for kind, value in named.items()}
    return tensors
