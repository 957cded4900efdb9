"""All of a run that must survive a kill: adapter, optimiser, loss scale, curve and candidates.

A checkpoint is a folder named by its step inside one named by the run's identity, so that a run
with other code, libraries, data, base or parameters never resumes from it. Safetensors and JSON.
Its record is written last and holds the hashes of all that belongs to it: without, it is none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lcm_lora.errors import UserError
from lcm_lora.files import sha256
from lcm_lora.params.distill import Candidates, Distill
from lcm_lora.records import Open, Record, parse_record
from lcm_lora.store import Store
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
    place = _place(state.step)
    store.remove(place)
    digest = _keep(store.at(place), _TENSORS, _tensors(state))
    record = Checkpoint(
        scaler=state.scaler.state_dict(),
        curve=state.curve,
        origin=state.origin,
        candidates=state.candidates,
        sha256=digest,
    )
    store.at(place).write(_RECORD, record.model_dump_json().encode())
    for older in _steps(store, state.step)[_KEPT:]:
        store.remove(_place(older))


def keep_candidate(state: State, store: Store) -> None:
    """Keep the weights of this step; the next checkpoint names them."""
    weights = {name: value.detach() for name, value in state.parameters.items()}
    new = f"new-{uuid.uuid4().hex}.safetensors"  # its name has its hash; others may write theirs
    digest = state.candidates[state.step] = _keep(store, new, weights)
    if (name := _candidate(state.step, digest)) in store.names():  # older checkpoints name it
        store.remove(new)
    else:
        store.move(new, name)


def take_candidate(state: State, step: int, store: Store) -> None:
    """Give the parameters the values that they had after `step`.

    Raises:
        UserError: They are gone or damaged since the run went on from them.
    """
    name, digest = _candidate(step, state.candidates[step]), state.candidates[step]
    try:
        with _whole(store, name, digest, "run the same command again") as path, torch.no_grad():
            weights = load_file(path)
            for name, parameter in state.parameters.items():
                parameter.copy_(weights[name])
    except _DamagedError as error:
        raise UserError(str(error)) from None


def keep_only(store: Store, name: str) -> None:
    """Delete the checkpoints of every run in `store` but those of the run `name`."""
    for other in store.names():
        if _is_identity(other) and other != name:
            store.remove(other)


def restore(state: State, store: Store, params: Distill) -> None:
    """Put `state` where the newest checkpoint of a run left it that is whole and of use.

    One past the end is of no use, nor is one before which a candidate that is wanted was not kept,
    or is lost: that one stays. A damaged one is named, set aside, and the one before it is taken.
    If there is none, `state` stays as it is.
    """
    for step in _steps(store, params.steps):
        place = _place(step)
        try:
            record = _record(store, place)
            if _has_candidates(record, store, params.candidates):
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


def _candidate(step: int, digest: str) -> str:
    """Return the file of a candidate; by its hash too, so that none is replaced by another."""
    return f"candidate-{step:08d}-{digest[:16]}.safetensors"


def _is_identity(name: str) -> bool:
    return re.fullmatch("[0-9a-f]{16}", name) is not None


def _steps(store: Store, most: int) -> list[int]:
    """Return the steps of the checkpoints in `store` that are not past `most`, newest first."""
    found = (re.fullmatch(r"step-(\d+)", name) for name in store.names())
    steps = (int(name[1]) for name in found if name)
    return sorted((step for step in steps if step <= most), reverse=True)


def _has_candidates(record: Checkpoint, store: Store, wanted: Candidates) -> bool:
    """Tell whether all candidates that are wanted until the checkpoint were kept, and are whole."""
    steps = [step for step in range(1, len(record.curve) + 1) if wanted.at(step)]
    return all(step in record.candidates for step in steps) and all(
        _is_there(store, _candidate(step, record.candidates[step]), record.candidates[step])
        for step in steps
    )


def _is_there(store: Store, name: str, digest: str) -> bool:
    """Tell whether a candidate is whole; a damaged one makes room for that which is made anew."""
    try:
        with _whole(store, name, digest, "an earlier checkpoint is taken"):
            return True
    except _DamagedError as error:
        sys.stderr.write(f"distill: {error}\n")
        if name in store.names():
            store.move(name, f"damaged-{name}")
        return False


def _record(store: Store, place: str) -> Checkpoint:
    where = f"{store.place(place)}/{_RECORD}"
    try:
        content = store.at(place).read(_RECORD)
        return parse_record(content, Checkpoint, where, "the one before it is taken")
    except FileNotFoundError:
        raise _DamagedError(f"{where}: no such file; the one before it is taken") from None
    except UserError as error:
        raise _DamagedError(str(error)) from None


@contextlib.contextmanager
def _whole(
    store: Store, name: str, digest: str, then: str = "the one before it is taken"
) -> Iterator[Path]:
    """Yield where a file can be read that is as its hash says; else `then` ends the message."""
    place = store.place(name)
    try:
        with store.fetched(name) as path:
            if sha256(path) != digest:
                raise _DamagedError(f"{place}: damaged; {then}")
            yield path
    except FileNotFoundError:
        raise _DamagedError(f"{place}: no such file; {then}") from None


def _keep(store: Store, name: str, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors, and return the hash of their file."""
    there = {key: value.cpu().contiguous() for key, value in tensors.items()}
    return store.put(name, lambda path: save_file(there, path))


def _go_on(state: State, store: Store, record: Checkpoint) -> None:
    place = _place(len(record.curve))
    with _whole(store.at(place), _TENSORS, record.sha256) as path, torch.no_grad():
        tensors = load_file(path)
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
