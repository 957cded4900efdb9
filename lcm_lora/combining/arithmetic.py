"""How two adapters lie to each other in the space of weights, module by module and in groups.

All is computed through the factors, in fp64: nothing of a weight's size is formed.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lcm_lora.combining.compress import norm, singular
from lcm_lora.combining.delta import Factor, Lora, Module

Side = Literal["rows", "columns"]


class Group(NamedTuple):
    """Modules that do the same at the same depth."""

    block: str
    """`down_blocks.1`, `mid_block`, `text_model.encoder`, or the module's own name at the ends."""
    kind: str
    """self-attention, cross-attention, feed-forward, projection, convolution, resampling, time or
    text."""


_KINDS = {
    "self-attention": r"\.attn1\.|\.self_attn\.",
    "cross-attention": r"\.attn2\.",
    "feed-forward": r"\.ff\.|\.mlp\.",
    "projection": r"\.proj_(in|out)$",
    "time": r"time_emb|add_embedding",
    "resampling": r"samplers\.",
    "convolution": r"\.conv|^conv_",
}
_BLOCK = re.compile(r"(down_blocks\.\d+|mid_block|up_blocks\.\d+|text_model\.encoder)\.")


def group(module: Module) -> Group:
    """Return the group of a module: its block and what it is there."""
    block = _BLOCK.match(module.name)
    kinds = (kind for kind, pattern in _KINDS.items() if re.search(pattern, module.name))
    name = block[1] if block else module.name
    prefix = "" if module.component == "unet" else f"{module.component}."
    return Group(f"{prefix}{name}", next(kinds, "text"))


def inner(a: Factor, b: Factor) -> float:
    """Return the Frobenius inner product of what two factors add to one module's weight."""
    (up, down), (other_up, other_down) = a.matrices(), b.matrices()
    return ((up.T @ other_up) * (down @ other_down.T)).sum().item()


def cosine(a: Factor, b: Factor) -> float:
    """Return the cosine between what two factors add, in [-1, 1]; 0 if one adds nothing."""
    norms = norm(a) * norm(b)
    return max(-1.0, min(1.0, inner(a, b) / norms)) if norms else 0.0


def cosine_of_all(a: Lora, b: Lora) -> float:
    """Return the cosine between two adapters as whole vectors, over all modules of both."""
    product = math.fsum(inner(a[module], b[module]) for module in a if module in b)
    norms = _norm_of_all(a) * _norm_of_all(b)
    return max(-1.0, min(1.0, product / norms)) if norms else 0.0


def effective_rank(factor: Factor) -> float:
    """Return how many directions carry what a factor adds, from 1 to its rank; 0 for nothing.

    It is the exponential of the entropy of the shares of energy, the squared singular values.

    Source: Roy and Vetterli 2007, "The effective rank", with energies in place of magnitudes.
    """
    energies = singular(factor).values.square()
    total = energies.sum()
    if not total:
        return 0.0
    return torch.exp(torch.special.entr(energies / total).sum()).item()


def rank_for(factor: Factor, share: float) -> int:
    """Return the lowest rank that keeps a share, in (0, 1], of what a factor adds, by energy."""
    energies = singular(factor).values.square().cumsum(0)
    enough = energies >= share * energies[-1] * (1 - 1e-12)
    return int(enough.int().argmax()) + 1


def overlap(a: Factor, b: Factor, rank: int, side: Side) -> float:
    """Return how far the leading directions of two factors share a subspace, in [0, 1].

    It is the mean squared cosine of the principal angles: 1 for one subspace within the other, 0
    for orthogonal ones. Random subspaces of dimension `rank` in n dimensions share `rank / n`.

    Args:
        a: Of a module.
        b: Of the same module.
        rank: How many directions of each are taken; of one that has fewer, all.
        side: `columns` are what a module writes, `rows` what it reads.

    Source: Hu et al. 2021 (LoRA, 2106.09685), equation 4, the normalised subspace similarity.
    """
    first, second = _directions(a, rank, side), _directions(b, rank, side)
    fewer = min(first.shape[1], second.shape[1])
    return min(1.0, (first.T @ second).square().sum().item() / fewer) if fewer else 0.0


def energies(lora: Lora) -> dict[Group, float]:
    """Return the share of an adapter's squared norm that lies in each group of modules."""
    found: dict[Group, float] = defaultdict(float)
    for module, factor in lora.items():
        found[group(module)] += norm(factor) ** 2
    total = math.fsum(found.values())
    return {key: value / total if total else 0.0 for key, value in sorted(found.items())}


def _directions(factor: Factor, rank: int, side: Side) -> Tensor:
    """Return an orthonormal basis [n, k] of the leading directions; none that carry nothing."""
    found = singular(factor)
    carries = found.values > found.values.max() * 1e-12
    kept = min(rank, int(carries.sum()))
    return found.left[:, :kept] if side == "columns" else found.right[:kept].T


def _norm_of_all(lora: Lora) -> float:
    return math.hypot(*(norm(factor) for factor in lora.values()))
