"""Adapters in, their weighted sum out: read, checked, added, compressed, written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from lcm_lora.combining.add import add
from lcm_lora.combining.compress import Loss, compress, losses
from lcm_lora.combining.delta import COMPONENTS, Lora
from lcm_lora.combining.header import combined_header
from lcm_lora.combining.opened import PEFT_CONFIG, adapter_files
from lcm_lora.combining.part import Part, check_fit, read_part
from lcm_lora.combining.write import Format, suited, write_lora
from lcm_lora.errors import UserError, some

DtypeName = Literal["fp16", "bf16", "fp32"]
DTYPES: tuple[DtypeName, ...] = get_args(DtypeName)
_TORCH: dict[DtypeName, torch.dtype] = {
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp32": torch.float32,
}
_SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a sum is written."""

    format: Format = "kohya"
    rank: int | None = None
    """At most; None keeps the sum exact."""
    dtype: DtypeName | None = None
    """None is the widest of what went in."""


@dataclass(frozen=True, slots=True)
class Combined:
    """A sum that was written."""

    parts: tuple[Part, ...]
    lora: Lora
    """As it was written."""
    losses: list[Loss]
    """Of each module: what was cut off, and what rounding to the dtype changed."""


def combine(files: Sequence[tuple[Path, float]], out: Path, wanted: Wanted) -> Combined:
    """Write the weighted sum of adapters.

    Args:
        files: Adapters and their weights.
        out: A safetensors file, or a folder if the format is `peft`.
        wanted: How it is written.

    Raises:
        UserError: An adapter cannot be read or does not fit another, no weight is other than 0,
            no module has the rank, the dtype cannot hold a number, or `out` is an input or is
            something else.
    """
    _check_out(out, [path for path, _ in files], wanted.format)
    parts = tuple(read_part(path, weight) for path, weight in files)
    check_fit(parts)
    exact = add([(part.lora, part.weight) for part in parts])
    if not exact:
        raise UserError("all weights are 0, so nothing is left of the sum; name another weight")
    lora = exact if wanted.rank is None else compress(exact, wanted.rank)
    lora = _lowered(suited(lora, wanted.format), _dtype(parts, wanted.dtype))
    write_lora(lora, out, wanted.format, combined_header(parts, lora))
    return Combined(parts, lora, losses(exact, lora))


def _dtype(parts: Sequence[Part], name: DtypeName | None) -> torch.dtype:
    if name is not None:
        return _TORCH[name]
    widest: torch.dtype | None = None
    for part in parts:
        for factor in part.lora.values():
            own = factor.up.dtype
            widest = own if widest is None else torch.promote_types(widest, own)
    return torch.float32 if widest in {None, torch.float64} else widest


def _lowered(lora: Lora, dtype: torch.dtype) -> Lora:
    lowered = {module: factor.to(dtype) for module, factor in lora.items()}
    lost = [
        module
        for module, factor in lowered.items()
        if not (torch.isfinite(factor.up).all() and torch.isfinite(factor.down).all())
    ]
    if lost:
        raise UserError(f"the dtype cannot hold the numbers of {some(lost)}; name --dtype fp32")
    return lowered


def _check_out(out: Path, inputs: Sequence[Path], format: Format) -> None:
    if format == "peft":
        _check_folder(out)
    elif out.suffix != _SUFFIX or out.is_dir():
        raise UserError(f"{out}: {format} is one file; name one that ends in {_SUFFIX}")
    taken = {file.resolve() for path in inputs for file in (path, *adapter_files(path))}
    if any(path == out.resolve() or out.resolve() in path.parents for path in taken):
        raise UserError(f"{out}: is itself combined; name another place to write to")


def _check_folder(out: Path) -> None:
    if out.suffix == _SUFFIX or out.is_file():
        raise UserError(f"{out}: peft is a folder; name one that is not there yet")
    configs = [out / PEFT_CONFIG, *(out / component / PEFT_CONFIG for component in COMPONENTS)]
    if out.is_dir() and any(out.iterdir()) and not any(file.is_file() for file in configs):
        raise UserError(f"{out}: holds something other than an adapter; name another folder")
