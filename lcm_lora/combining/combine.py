"""Adapters in, their weighted sum out: read, checked, added, compressed, written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from lcm_lora.combining.add import add
from lcm_lora.combining.compress import Loss, compress, losses
from lcm_lora.combining.delta import COMPONENTS, Lora
from lcm_lora.combining.header import COMBINED, combined_header
from lcm_lora.combining.opened import PEFT_CONFIG, PEFT_WEIGHTS
from lcm_lora.combining.part import Part, check_fit, read_part
from lcm_lora.combining.write import Format, suited, write_lora
from lcm_lora.errors import UserError, some
from lcm_lora.families.header import read_header
from lcm_lora.progress import progress
from lcm_lora.shapes.places import STYLES

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
    """Of each module of the file against the sum in fp64: what was cut off, and what rounding
    changed."""


def combine(files: Sequence[tuple[Path, float]], out: Path, wanted: Wanted) -> Combined:
    """Write the weighted sum of adapters.

    Args:
        files: Adapters and their weights; those of weight 0 are left out.
        out: A safetensors file, or a folder if the format is `peft`; replaced if it was made so.
        wanted: How it is written.

    Raises:
        UserError: An adapter cannot be read or does not fit another, no weight is other than 0,
            no module has the rank, a number has no room in the file, or `out` is an input, is
            something else or was not made by a sum.
    """
    taken = [(STYLES.get(str(path), path), weight) for path, weight in files if weight]
    _check_out(out, [path for path, _ in taken], wanted.format)
    if not taken:
        raise UserError("all weights are 0, so nothing is left of the sum; name another weight")
    parts = tuple(read_part(path, weight) for path, weight in taken)
    check_fit(parts)
    exact = add([(part.lora, part.weight) for part in parts])
    _check_alphas(exact)
    lora = exact if wanted.rank is None else compress(exact, wanted.rank)
    lora = _lowered(suited(lora, wanted.format), _dtype(parts, wanted.dtype))
    write_lora(lora, out, wanted.format, combined_header(parts, lora))
    return Combined(parts, lora, _losses(parts, lora))


def _losses(parts: Sequence[Part], lora: Lora) -> list[Loss]:
    """Return how far a written sum is from the one in fp64, which is never held whole."""
    found: list[Loss] = []
    with progress("combine", len(lora), "modules") as advance:
        for module, kept in lora.items():
            terms = [
                ({module: part.lora[module].to(torch.float64)}, part.weight)
                for part in parts
                if module in part.lora
            ]
            found += losses(add(terms), {module: kept})
            advance()
    return found


def _check_alphas(lora: Lora) -> None:
    lost = [
        module
        for module, factor in lora.items()
        if not math.isfinite(factor.alpha) or (factor.scale and not factor.alpha)
    ]
    if lost:
        raise UserError(
            f"no file has room for an alpha as large or small as that of {some(lost)}; name "
            "weights nearer to 1"
        )


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
        mend = "weights nearer to 1" if dtype == torch.float32 else "--dtype fp32"
        raise UserError(f"the dtype cannot hold the numbers of {some(lost)}; name {mend}")
    return lowered


def _check_out(out: Path, inputs: Sequence[Path], format: Format) -> None:
    is_folder = format == "peft"
    if is_folder and (out.suffix == _SUFFIX or out.is_file()):
        raise UserError(f"{out}: peft is a folder; name one that is not there yet")
    if not is_folder and (out.suffix != _SUFFIX or out.is_dir()):
        raise UserError(f"{out}: {format} is one file; name one that ends in {_SUFFIX}")
    place = out.resolve()
    if out.is_symlink() or (is_folder and Path.cwd().is_relative_to(place)):
        raise UserError(f"{out}: is a link or where you work; name another place to write to")
    taken = [path.resolve() for path in inputs]
    if any(place.is_relative_to(path) or path.is_relative_to(place) for path in taken):
        raise UserError(f"{out}: is itself combined; name another place to write to")
    if out.exists() and not _is_a_sum(out):
        raise UserError(
            f"{out}: is there, and holds what `lcm-lora combine` did not write; OUT comes first, "
            "before what is combined: name another, or remove it"
        )


def _is_a_sum(out: Path) -> bool:
    """Tell whether a file, or all that a folder holds, was written by `combine`."""
    folders = [out / component for component in COMPONENTS if (out / component).is_dir()]
    entries = [out] if out.is_file() else [e for e in out.rglob("*") if e not in folders]
    weights = [entry for entry in entries if entry.suffix == _SUFFIX]
    known = {folder / name for folder in (out, *folders) for name in (PEFT_WEIGHTS, PEFT_CONFIG)}
    try:
        ours = all(COMBINED in read_header(file).metadata for file in weights)
    except UserError:  # damaged, or none
        return False
    return ours and bool(weights or not entries) and {*entries} <= {out, *known}
