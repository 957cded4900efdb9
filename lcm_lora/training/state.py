"""All of a run that must survive a kill: adapter, optimiser, loss scale, curve and candidates.

A checkpoint is a folder named by its step inside one named by the run's identity, so that a run
with other code, libraries, data, base or parameters never resumes from it. Safetensors and JSON.
Its record is written last and holds the hashes of all that belongs to it: without, it is none.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from lcm_lora.errors import UserError
from lcm_lora.params.distill import Candidates, Distill
from lcm_lora.records import Open, Record, parse_record
from lcm_lora.training.curve import CurveRow
from lcm_lora.training.origin import Origin
from lcm_lora.training.store import Store

_TENSORS, _RECORD = "state.safetensors", "state.json"
_KEPT = 2
"""Checkpoints of a run that are kept: the newest, and one to fall back on if it is damaged."""


@dataclass(slots=True)
class State:
    """Where a run stands: named trainable parameters, their optimiser, and the steps done."""

    parameters: dict[str, nn.Parameter]
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    """Loss scale of fp16 runs, else disabled."""
    origin: Origin
    """What made the last step."""
    step: int = 0
    """Optimiser steps done."""
    curve: list[CurveRow] = field(default_factory=list)
    """One row a step, from the first."""
    candidates: dict[int, str] = field(default_factory=dict)
    """SHA-256 of the weights that were kept, by their step; more than are wanted, if the
    parameters said otherwise before."""


class Checkpoint(Record):
    """A checkpoint's record: its curve, its origin, and the SHA-256 of its tensors."""

    scaler: Open
    curve: list[CurveRow]
    origin: Origin
    candidates: dict[int, str]
    sha256: str


class _DamagedError(Exception):
    """A checkpoint that cannot be gone on from."""


def identity(parts: Mapping[str, Any]) -> str:
    """Return a short hash of everything that decides what a run computes."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def save_checkpoint(state: State, store: Store) -> None:
    """Write a checkpoint of a run into its store, and delete older ones but the last.

    Those past it stay: they are of a longer run of the same identity.
    """
    place, tensors = _place(state.step), _bytes(_tensors(state))
    store.remove(place)
    store.at(place).write(_TENSORS, tensors)
    record = Checkpoint(
        scaler=state.scaler.state_dict(),
        curve=state.curve,
        origin=state.origin,
        candidates=state.candidates,
        sha256=_sha256(tensors),
    )
    store.at(place).write(_RECORD, record.model_dump_json().encode())
    for older in _steps(store, state.step)[_KEPT:]:
        store.remove(_place(older))


def keep_candidate(state: State, store: Store) -> None:
    """Keep the weights of this step; the next checkpoint names them."""
    weights = _bytes({name: value.detach() for name, value in state.parameters.items()})
    state.candidates[state.step] = _sha256(weights)
    store.write(_candidate(state.step, state.candidates[state.step]), weights)


def take_candidate(state: State, step: int, store: Store) -> None:
    """Give the parameters the values that they had after `step`."""
    weights = load(_whole(store, _candidate(step, state.candidates[step]), state.candidates[step]))
    with torch.no_grad():
        for name, parameter in state.parameters.items():
            parameter.copy_(weights[name])


def keep_only(store: Store, name: str) -> None:
    """Delete the checkpoints of every run in `store` but those of the run `name`."""
    for other in store.names():
        if _is_identity(other) and other != name:
            store.remove(other)


def restore(state: State, store: Store, params: Distill) -> None:
    """Put `state` where the newest checkpoint of a run left it that is whole and of use.

    One past the end is of no use, nor is one before which a candidate that is wanted was not kept.
    A damaged one is named, set aside, and the one before it is taken. If there is none, `state`
    stays as it is.
    """
    for step in _steps(store, params.steps):
        place = _place(step)
        try:
            record = _record(store, place)
            if _has_candidates(record, params.candidates):
                for kept, sha256 in record.candidates.items():
                    _whole(store, _candidate(kept, sha256), sha256)
                _go_on(state, store, record)
                return
        except _DamagedError as error:
            store.move(place, f"damaged-{place}")
            aside = store.place(f"damaged-{place}")
            sys.stderr.write(f"distill: checkpoint set aside as {aside}: {error}\n")


def follow(state: State, store: Store, step: int) -> None:
    """Put `state` where the main process put its own: at the checkpoint of `step`, 0 for none.

    Raises:
        UserError: It cannot be read. It stays, since the main process could read it.
    """
    if step == 0:
        return
    place = _place(step)
    try:
        _go_on(state, store, _record(store, place))
    except _DamagedError as error:
        raise UserError(
            f"{store.place(place)}: one process could read it, another could not; run the same "
            "command again"
        ) from error


def _place(step: int) -> str:
    return f"step-{step:08d}"


def _candidate(step: int, sha256: str) -> str:
    """Return the file of a candidate; by its hash too, so that none is replaced by another."""
    return f"candidate-{step:08d}-{sha256[:16]}.safetensors"


def _is_identity(name: str) -> bool:
    return re.fullmatch("[0-9a-f]{16}", name) is not None


def _steps(store: Store, most: int) -> list[int]:
    """Return the steps of the checkpoints in `store` that are not past `most`, newest first."""
    found = (re.fullmatch(r"step-(\d+)", name) for name in store.names())
    steps = (int(name[1]) for name in found if name)
    return sorted((step for step in steps if step <= most), reverse=True)


def _has_candidates(record: Checkpoint, wanted: Candidates) -> bool:
    """Tell whether all candidates were kept that are wanted until the checkpoint."""
    steps = range(1, len(record.curve) + 1)
    return all(step in record.candidates for step in steps if wanted.at(step))


def _record(store: Store, place: str) -> Checkpoint:
    content, where = _there(store.at(place), _RECORD), f"{store.place(place)}/{_RECORD}"
    try:
        return parse_record(content, Checkpoint, where, "the one before it is taken")
    except UserError as error:
        raise _DamagedError(str(error)) from None


def _whole(store: Store, name: str, sha256: str) -> bytes:
    content = _there(store, name)
    if _sha256(content) != sha256:
        raise _DamagedError(f"{store.place(name)}: damaged; the one before it is taken")
    return content


def _there(store: Store, name: str) -> bytes:
    try:
        return store.read(name)
    except FileNotFoundError:
        raise _DamagedError(
            f"{store.place(name)}: no such file; the one before it is taken"
        ) from None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _bytes(tensors: Mapping[str, Tensor]) -> bytes:
    return save({name: value.cpu().contiguous() for name, value in tensors.items()})


def _go_on(state: State, store: Store, record: Checkpoint) -> None:
    place = _place(len(record.curve))
    tensors = load(_whole(store.at(place), _TENSORS, record.sha256))
    with torch.no_grad():
        for name, parameter in state.parameters.items():
            parameter.copy_(tensors[f"weight/{name}"])
            state.optimiser.state[parameter] = {
                "step": tensors[f"step/{name}"].to(parameter.device),
                **{
                    moment: torch.empty_like(parameter).copy_(tensors[f"{moment}/{name}"])
                    for moment in ("exp_avg", "exp_avg_sq")
                },
            }
    state.scaler.load_state_dict(record.scaler)
    state.curve[:] = record.curve
    state.step = len(state.curve)
    state.origin = record.origin
    state.candidates = dict(record.candidates)


def _tensors(state: State) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, parameter in state.parameters.items():
        moments = state.optimiser.state[parameter]
        named = {"weight": parameter.detach(), **moments}
        tensors |= {f"{kind}/{name}": value for kind, value in named.items()}
    return tensors
