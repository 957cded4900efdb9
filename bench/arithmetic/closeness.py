"""How close two adapters lie to each other in a module, beside what chance would give.

Chance turns what one adapter adds by rotations drawn evenly on either side, which keeps its
singular values. The cosine then is 0 on average, with variance 1 / (rows x columns); and subspaces
of dimension k in n overlap by k / n, with variance 2 (n - k)^2 / (n^2 (n - 1) (n + 2)), the moments
of a squared entry and of the products of two in a random rotation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lcm_lora.combining.arithmetic import (
    Side,
    cosine,
    effective_rank,
    group,
    overlap,
    rank_for,
)
from lcm_lora.combining.compress import singular
from lcm_lora.combining.delta import Factor, Lora

SPREADS = 1.96
"""Standard deviations either side that hold 95 % of what chance gives."""


@dataclass(frozen=True, slots=True)
class Chance:
    """What chance gives: its mean and its standard deviation."""

    mean: float
    deviation: float


@dataclass(frozen=True, slots=True)
class Measured:
    """A number, and what chance would give in its place."""

    value: float
    chance: Chance

    @property
    def is_by_chance(self) -> bool:
        """Whether 95 % of what chance gives lies as near to its mean."""
        return abs(self.value - self.chance.mean) <= SPREADS * self.chance.deviation


@dataclass(frozen=True, slots=True)
class Closeness:
    """How two adapters lie to each other in one module."""

    module: str
    block: str
    kind: str
    cosine: Measured
    columns: Measured
    """Overlap of what they write: all directions of the adapter of the lower rank, and as many."""
    rows: Measured
    """Overlap of what they read."""
    first_columns: Measured
    """The same of the first direction of each alone."""
    first_rows: Measured


def closeness(a: Lora, b: Lora) -> list[Closeness]:
    """Return how two adapters lie to each other in every module that both change."""
    return [
        Closeness(
            module.name,
            *group(module),
            cosine=Measured(cosine(factor, b[module]), cosine_by_chance(factor)),
            columns=_overlap(factor, b[module], "columns", factor.full_rank),
            rows=_overlap(factor, b[module], "rows", factor.full_rank),
            first_columns=_overlap(factor, b[module], "columns", 1),
            first_rows=_overlap(factor, b[module], "rows", 1),
        )
        for module, factor in a.items()
        if module in b
    ]


def _overlap(a: Factor, b: Factor, side: Side, most: int) -> Measured:
    rank = min(most, a.full_rank, b.full_rank)
    size = a.shape[0] if side == "columns" else math.prod(a.shape[1:])
    return Measured(overlap(a, b, rank, side), overlap_by_chance(size, rank))


def cosine_by_chance(factor: Factor) -> Chance:
    """Return what the cosine of a factor with a turned one comes to."""
    return Chance(0.0, math.prod(factor.shape) ** -0.5)


def overlap_by_chance(size: int, rank: int) -> Chance:
    """Return what the overlap of two subspaces of dimension `rank` in `size` comes to."""
    left = size - rank
    variance = 2 * left**2 / (size**2 * (size - 1) * (size + 2))
    return Chance(rank / size, math.sqrt(variance))


def average(found: Sequence[Measured]) -> Measured:
    """Return the mean over modules, beside that of independent draws by chance."""
    count = len(found)
    chance = Chance(
        math.fsum(each.chance.mean for each in found) / count,
        math.hypot(*(each.chance.deviation for each in found)) / count,
    )
    return Measured(math.fsum(each.value for each in found) / count, chance)


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The singular values of what an adapter adds to one module."""

    module: str
    block: str
    kind: str
    norm: float
    effective_rank: float
    rank_for_90: int
    rank_for_99: int
    """The lowest rank that keeps so much of its energy, in percent."""
    values: tuple[float, ...]


def spectra(lora: Lora) -> list[Spectrum]:
    """Return the singular values of every module."""
    found = []
    for module, factor in lora.items():
        values = singular(factor).values
        ranks = (rank_for(factor, 0.9), rank_for(factor, 0.99))
        about = (values.norm().item(), effective_rank(factor), *ranks)
        found.append(Spectrum(module.name, *group(module), *about, tuple(values.tolist())))
    return found
