"""All of a run that must survive a kill: adapter, optimiser, loss scale, step, curve and origin.

A checkpoint is a folder named by its step inside one named by the run's identity, so that a run
with other code, libraries, data, base or parameters never resumes from it. Safetensors and JSON.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lcm_lora.errors import UserError
from lcm_lora.files import new_folder, sha256, write_tensors
from lcm_lora.records import Open, Record, read_record, write_record
from lcm_lora.training.curve import CurveRow
from lcm_lora.training.origin import Origin

_TENSORS, _RECORD = "state.safetensors", "state.json"
_KEPT = 2
"""Checkpoints of a run that are kept: the newest, and one to fall back on if it is damaged."""


@dataclass(slots=True)
class State:
    """Where a run stands: named trainable parameters, their optimiser, and the steps done."""

    parameters: dict[str, nn.Parameter]
    optimiser: torch.optim.Optimizer
    scaler: Any
    """Loss scaler of fp16 runs, else None."""
    origin: Origin
    """What made the last step."""
    step: int = 0
    """Optimiser steps done."""
    curve: list[CurveRow] = field(default_factory=list)
    """One row a step, from the first."""


class Checkpoint(Record):
    """A checkpoint's record: its curve, its origin, and the SHA-256 of its tensors."""

    scaler: Open | None
    curve: list[CurveRow]
    origin: Origin
    sha256: str


def identity(parts: Mapping[str, Any]) -> str:
    """Return a short hash of everything that decides what a run computes."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def save(state: State, folder: Path) -> None:
    """Write a checkpoint into `folder`, and delete older ones but the last.

    Those past it stay: they are of a longer run of the same identity.
    """
    with new_folder(_place(folder, state.step)) as made:
        write_tensors(made / _TENSORS, _tensors(state))
        record = Checkpoint(
            scaler=state.scaler.state_dict() if state.scaler else None,
            curve=state.curve,
            origin=state.origin,
            sha256=sha256(made / _TENSORS),
        )
        write_record(made / _RECORD, record)
    for older in _steps(folder, state.step)[_KEPT:]:
        shutil.rmtree(_place(folder, older))


def keep_only(folder: Path) -> None:
    """Delete the checkpoints of every run but the one in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for other in folder.parent.iterdir():
        if other.is_dir() and other != folder:
            shutil.rmtree(other)


def restore(state: State, folder: Path, steps: int) -> bool:
    """Put `state` where the newest whole checkpoint of `folder` left it, unless past `steps`.

    A damaged one is named, set aside, and the one before it is taken.

    Returns:
        Whether there was such a checkpoint.
    """
    for step in _steps(folder, steps):
        place = _place(folder, step)
        try:
            record, tensors = _read(place)
        except (UserError, SafetensorError, OSError) as error:
            aside = place.with_name(f"damaged-{place.name}")
            shutil.rmtree(aside, ignore_errors=True)
            place.rename(aside)
            sys.stderr.write(f"distill: checkpoint set aside as {aside}: {error}\n")
            continue
        _put(state, record, tensors)
        return True
    return False


def _place(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}"


def _steps(folder: Path, most: int) -> list[int]:
    """Return the steps of the checkpoints in `folder` that are not past `most`, newest first."""
    steps = [int(path.name.removeprefix("step-")) for path in folder.glob("step-*")]
    return sorted((step for step in steps if step <= most), reverse=True)


def _read(place: Path) -> tuple[Checkpoint, dict[str, Tensor]]:
    record = read_record(place / _RECORD, Checkpoint, "the one before it is taken")
    if sha256(place / _TENSORS) != record.sha256:
        raise UserError(f"{place / _TENSORS}: damaged; the one before it is taken")
    return record, load_file(place / _TENSORS)


def _put(state: State, record: Checkpoint, tensors: Mapping[str, Tensor]) -> None:
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
        state.scaler.load_state_dict(record.scaler)
    state.curve[:] = record.curve
    state.step = len(state.curve)
    state.origin = record.origin


def _tensors(state: State) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, parameter in state.parameters.items():
        moments = state.optimiser.state[parameter]
        named = {"weight": parameter.detach(), **moments}
        tensors |= {f"{kind}/{name}": value for kind, value in named.items()}
    return tensors
