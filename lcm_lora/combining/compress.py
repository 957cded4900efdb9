"""The nearest adapter of a lower rank: of each module the largest singular values, and no others.

Nothing of the weight's size is formed: QR of both factors leaves a small square matrix with the
same singular values (Eckart and Young 1936; Halko, Martinsson and Tropp 2011, section 5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lcm_lora.combining.delta import Factor, Lora, Module, from_matrices
from lcm_lora.errors import UserError


@dataclass(frozen=True, slots=True)
class Singular:
    """The singular value decomposition of what a factor adds, all in fp64."""

    left: Tensor
    """[out, k], orthonormal columns; k at most the rank."""
    values: Tensor
    """[k], falling."""
    right: Tensor
    """[k, in * height * width], orthonormal rows."""


def singular(factor: Factor) -> Singular:
    """Return the singular value decomposition of what a factor adds."""
    up, down = factor.matrices()
    left, inner_left = torch.linalg.qr(up)
    right, inner_right = torch.linalg.qr(down.T)
    u, values, v = torch.linalg.svd(inner_left @ inner_right.T, full_matrices=False)
    return Singular(left @ u, values, (right @ v.T).T)


def compress(lora: Lora, rank: int) -> Lora:
    """Return the nearest adapter whose modules have at most a rank, in the Frobenius norm.

    A module whose factors are of that rank already stays as it is.

    Raises:
        UserError: No module has such a rank.
    """
    most = max(factor.full_rank for factor in lora.values())
    if not 1 <= rank <= most:
        raise UserError(
            f"--rank {rank}: the modules of this sum have ranks of at most {most}; name one from 1 "
            f"to {most}, or leave it out to keep the sum exact"
        )
    return {
        module: factor if factor.rank <= rank else nearest(factor, rank)
        for module, factor in lora.items()
    }


def nearest(factor: Factor, rank: int) -> Factor:
    """Return the nearest factor of at most a rank: fp32, both matrices of like size, scale 1."""
    found = singular(factor)
    kept = min(rank, len(found.values))
    left, right = _signed(found.left[:, :kept], found.right[:kept])
    root = found.values[:kept].sqrt()
    up, down = (left * root).float(), (root[:, None] * right).float()
    return from_matrices(up, down, factor.shape, 1.0)


def _signed(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Make the largest entry of each left vector positive: either sign is as good otherwise."""
    largest = left.abs().argmax(0)
    signs = left[largest, torch.arange(left.shape[1])].sign()
    return left * signs, signs[:, None] * right


@dataclass(frozen=True, slots=True)
class Loss:
    """How far a module's written sum is from the exact one, in the Frobenius norm."""

    module: Module
    error: float
    norm: float
    """Of the exact sum."""

    @property
    def relative(self) -> float:
        """The error as a share of the exact sum."""
        return relative(self.error, self.norm)


def losses(exact: Lora, kept: Lora) -> list[Loss]:
    """Return how far each module is from the exact sum; both have the same modules."""
    return [
        Loss(module, difference(factor, kept[module]), norm(factor))
        for module, factor in exact.items()
    ]


def overall(found: list[Loss]) -> float:
    """Return the relative error of all modules as one vector."""
    error = math.hypot(*(loss.error for loss in found))
    return relative(error, math.hypot(*(loss.norm for loss in found)))


def relative(error: float, norm: float) -> float:
    """Return an error as a share of a norm; of nothing an error of nothing is none."""
    return error / norm if norm else float(error > 0)


def norm(factor: Factor) -> float:
    """Return the Frobenius norm of what a factor adds."""
    return _product_norm(*factor.matrices())


def difference(a: Factor, b: Factor) -> float:
    """Return the Frobenius norm of the difference of what two factors add to one weight."""
    (up, down), (other_up, other_down) = a.matrices(), b.matrices()
    if torch.equal(down, other_down):
        return _product_norm(up - other_up, down)
    return _product_norm(torch.cat([up, -other_up], dim=1), torch.cat([down, other_down]))


def _product_norm(up: Tensor, down: Tensor) -> float:
    # By triangles, since a norm from Gram matrices has no digits left below 1e-8 of its parts.
    inner = torch.linalg.qr(up, mode="r")[1] @ torch.linalg.qr(down.T, mode="r")[1].T
    return torch.linalg.matrix_norm(inner).item()
