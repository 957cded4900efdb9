"""Read a LoRA in any format that people have, or say which part of it is no plain LoRA."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lcm_lora.combining.delta import COMPONENTS, Factor, Lora, Module
from lcm_lora.combining.keys import PartName, parse_all
from lcm_lora.combining.opened import Opened, open_adapter
from lcm_lora.combining.peft_config import PeftConfig, header_config, parse_config
from lcm_lora.errors import UserError
from lcm_lora.records import read_bytes

if TYPE_CHECKING:
    from torch import Tensor

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_Parts = dict[PartName, "Tensor"]


def read_lora(path: Path) -> Lora:
    """Read what an adapter adds.

    A convolution that is kept in three factors (LoCon with a middle) is returned in two. Ranks and
    alphas may differ from module to module. An adapter without alphas has alpha = rank, as
    diffusers takes it.

    Args:
        path: A file or folder in a format of `lcm_lora.combining.keys`.

    Raises:
        UserError: It is missing, pickled, damaged, of another kind than LoRA, made for another
            kind of model, empty, or holds NaN or infinity.
    """
    return lora_in(open_adapter(path))


def lora_in(files: Sequence[Opened]) -> Lora:
    """Return what an adapter adds whose files were read; see `read_lora`."""
    lora: dict[Module, Factor] = {}
    for file in files:
        lora.update(_factors(file))
    if not lora:
        raise UserError(f"{files[0].path}: holds no LoRA; name the file of an adapter")
    return dict(sorted(lora.items()))


def _factors(opened: Opened) -> dict[Module, Factor]:
    parts = _by_module(opened)
    _check_numbers(opened)
    scale = _scales(opened)
    return {module: _factor(opened.path, module, found, scale) for module, found in parts.items()}


def _by_module(opened: Opened) -> dict[Module, _Parts]:
    """Return the tensors of each module by their part."""
    keys = parse_all(str(opened.path), opened.tensors)
    folder = opened.component
    parts: dict[Module, _Parts] = {}
    names: dict[tuple[Module, PartName], str] = {}
    for name, key in keys.items():
        if key in names:
            raise UserError(
                f"{opened.path}: {names[key]} and {name} are the same; keep one of them"
            )
        names[key] = name
        module = Module(folder or key.module.component, key.module.name)
        parts.setdefault(module, {})[key.part] = opened.tensors[name]
    return parts


def _check_numbers(opened: Opened) -> None:
    for name, tensor in sorted(opened.tensors.items()):
        if tensor.dtype not in _DTYPES:
            raise UserError(
                f"{opened.path}: {name} is kept as {str(tensor.dtype).removeprefix('torch.')}; "
                "convert it to fp16, bf16 or fp32"
            )
        if not torch.isfinite(tensor).all():
            raise UserError(
                f"{opened.path}: {name} holds NaN or infinity, so its training broke; take an "
                "earlier file of it"
            )


def _scales(opened: Opened) -> Callable[[Module, int], float]:
    """Return by how much a module's product counts where no alpha is beside it."""
    if opened.config is not None:
        content = read_bytes(opened.config, "fetch it again")
        config = _plain(parse_config(content, str(opened.config)), opened.config)
        return lambda module, rank: config.scale(module.name, rank)
    configs: Mapping[str, PeftConfig | None] = {
        component: header_config(opened.metadata, component, str(opened.path))
        for component in COMPONENTS
    }

    def scale(module: Module, rank: int) -> float:
        config = configs[module.component]
        return 1.0 if config is None else _plain(config, opened.path).scale(module.name, rank)

    return scale


def _plain(config: PeftConfig, where: Path) -> PeftConfig:
    if other := config.other():
        raise UserError(
            f"{where}: says {other}, which no sum of LoRAs can hold; leave it out, or merge it "
            "into its base with the program that made it"
        )
    return config


def _factor(
    path: Path, module: Module, parts: _Parts, scale: Callable[[Module, int], float]
) -> Factor:
    if "down" not in parts or "up" not in parts:
        missing = "up (or B)" if "down" in parts else "down (or A)"
        raise UserError(f"{path}: {module} has no {missing} factor; fetch it again")
    down, up = parts["down"], parts["up"]
    if "mid" in parts:
        down = _folded(path, module, parts["mid"], down)
    ones = up.shape[2:]
    fits = up.ndim >= 2 and down.ndim == up.ndim and up.shape[1] == down.shape[0] > 0
    if not fits or down.ndim not in {2, 4} or any(side != 1 for side in ones):
        raise UserError(
            f"{path}: the factors of {module} do not fit each other, {list(up.shape)} and "
            f"{list(down.shape)}; fetch it again"
        )
    rank = down.shape[0]
    if "alpha" in parts:
        if parts["alpha"].numel() != 1:
            raise UserError(f"{path}: the alpha of {module} is no single number; fetch it again")
        return Factor(down, up, float(parts["alpha"]) / rank)
    return _trimmed(Factor(down, up, scale(module, rank)))


def _trimmed(factor: Factor) -> Factor:
    """Return a factor without its last directions if they are zero, as a writer fills ranks."""
    empty = (factor.down.flatten(1) == 0).all(1) & (factor.up.flatten(1) == 0).all(0)
    kept = max(1, factor.rank - int(empty.flip(0).cumprod(0).sum()))
    return replace(factor, down=factor.down[:kept], up=factor.up[:, :kept])


def _folded(path: Path, module: Module, mid: Tensor, down: Tensor) -> Tensor:
    """Return a middle [rank, rank, height, width] and a down [rank, in, 1, 1] as one, in fp32."""
    if mid.ndim != 4 or down.ndim not in {2, 4} or mid.shape[1] != down.shape[0]:
        raise UserError(f"{path}: the factors of {module} do not fit each other; fetch it again")
    product = torch.einsum("abhw,bi->aihw", mid.double(), down.flatten(1).double())
    return product.float()
