"""An adapter in parts: without a group of its modules, in that group alone, and at lower ranks."""

from __future__ import annotations

from collections.abc import Callable

from lcm_lora.combining.arithmetic import Group, group
from lcm_lora.combining.compress import compress
from lcm_lora.combining.delta import Lora

WHOLE, NOTHING = "whole", "nothing"

GROUPS: dict[str, Callable[[Group], bool]] = {
    "down": lambda own: own.block.startswith("down_blocks"),
    "mid": lambda own: own.block == "mid_block",
    "up": lambda own: own.block.startswith("up_blocks"),
    "self-attention": lambda own: own.kind == "self-attention",
    "cross-attention": lambda own: own.kind == "cross-attention",
    "feed-forward": lambda own: own.kind == "feed-forward",
    "projections": lambda own: own.kind == "projection",
    "convolutions": lambda own: own.kind in {"convolution", "resampling"},
    "time": lambda own: own.kind == "time",
}
"""Blocks, then kinds; a module of a block is in one of either."""


def without(name: str) -> str:
    """Return the name of the adapter without a group."""
    return f"without-{name}"


def alone(name: str) -> str:
    """Return the name of a group alone."""
    return f"alone-{name}"


def ranked(rank: int) -> str:
    """Return the name of the adapter at a rank."""
    return f"rank-{rank}"


def ablations(lora: Lora) -> dict[str, Lora]:
    """Return the adapter without each group that it has, and each group alone."""
    found = {}
    for name, belongs in GROUPS.items():
        inside = {module: f for module, f in lora.items() if belongs(group(module))}
        outside = {module: f for module, f in lora.items() if module not in inside}
        if inside and outside:
            found |= {without(name): outside, alone(name): inside}
    return found


def lower_ranks(lora: Lora) -> dict[int, Lora]:
    """Return the adapter at every power of two below its rank."""
    most = max(factor.full_rank for factor in lora.values())
    ranks = [2**power for power in range(most.bit_length()) if 2**power < most]
    return {rank: compress(lora, rank) for rank in ranks}
