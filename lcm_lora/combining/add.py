"""tau' = sum of w_i tau_i: adapters as vectors, added exactly by concatenating their factors."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lcm_lora.combining.delta import Factor, Lora, Module, from_matrices, scaled


def add(loras: Sequence[tuple[Lora, float]]) -> Lora:
    """Return the weighted sum of adapters.

    The rank of a module is the sum of its ranks. The scale is the largest of weight times scale,
    and the others' factors shrink by their share of it: a single adapter keeps every digit of its
    factors, and so do several of one scale and one weight.

    Args:
        loras: Adapters whose shapes fit each other, each with its weight; those of weight 0 are
            left out.

    Source: luo2023lcmlora (2311.05556), equation 7; the concatenation is PEFT's
    `add_weighted_adapter` with `combination_type="cat"`.
    """
    terms: dict[Module, list[Factor]] = {}
    for lora, weight in loras:
        for module, factor in lora.items() if weight else ():
            terms.setdefault(module, []).append(scaled(factor, 1.0, weight * factor.scale))
    return {module: _sum(terms[module]) for module in sorted(terms)}


def _sum(terms: Sequence[Factor]) -> Factor:
    scale = max(abs(term.scale) for term in terms)
    shares = [scaled(term, term.scale / scale if scale else 1.0, scale) for term in terms]
    shape = max((term.shape for term in terms), key=len)  # 1 x 1 convolutions come as matrices too
    up = torch.cat([term.up.flatten(1) for term in shares], dim=1)
    down = torch.cat([term.down.flatten(1) for term in shares])
    return from_matrices(up, down, shape, scale)
