"""What a LoRA adds to a network, as factors: of each module `scale * up @ down`.

All of a LoRA is a vector in the space of weights: a point of it is a mapping from modules to such
factors, and no product is ever formed that is larger than they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Component = Literal["unet", "text_encoder", "text_encoder_2"]
COMPONENTS: tuple[Component, ...] = get_args(Component)
"""The parts of a pipeline that a LoRA may change."""


class Module(NamedTuple):
    """A module of a pipeline: whose it is, and its name there, with dots, as in diffusers.

    Text encoders' names begin with `text_model`, as files have them.
    """

    component: Component
    name: str

    def __str__(self) -> str:
        """Return both, as diffusers' files name a module."""
        return f"{self.component}.{self.name}"


@dataclass(frozen=True, slots=True)
class Factor:
    """What is added to one module's weight [out, in, (height, width)]: `scale * up @ down`."""

    down: Tensor
    """[rank, in], of a convolution [rank, in, height, width]."""
    up: Tensor
    """[out, rank], of a convolution [out, rank, 1, 1]."""
    scale: float
    """alpha / rank, or alpha / sqrt(rank) where the adapter is rank-stabilised."""

    @property
    def rank(self) -> int:
        """How many directions the factors have room for."""
        return self.down.shape[0]

    @property
    def alpha(self) -> float:
        """The alpha of which the scale is alpha / rank; as fp32, in which files hold it."""
        import torch  # heavy, and needless to those who only name modules

        return torch.tensor(self.scale * self.rank, dtype=torch.float32).item()

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight that it is added to."""
        return (self.up.shape[0], *self.down.shape[1:])

    @property
    def full_rank(self) -> int:
        """The highest rank that what it adds can have."""
        return min(self.rank, self.up.shape[0], math.prod(self.down.shape[1:]))

    def matrices(self) -> tuple[Tensor, Tensor]:
        """Return (up, down), fp64 [out, rank] and [rank, in * height * width], scale within up."""
        return self.up.flatten(1).double() * self.scale, self.down.flatten(1).double()

    def to(self, dtype: torch.dtype) -> Factor:
        """Return it with its factors in another dtype."""
        return replace(self, down=self.down.to(dtype), up=self.up.to(dtype))


Lora = Mapping[Module, Factor]
"""What an adapter adds, module by module; a module that is not there is left as it is."""


def delta(factor: Factor) -> Tensor:
    """Return what a factor adds to its module's weight, fp64 of the weight's shape."""
    up, down = factor.matrices()
    return (up @ down).reshape(factor.shape)


def bare(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of a weight, a 1 x 1 convolution as the matrix that some write it as."""
    return tuple(shape[:2] if math.prod(shape[2:]) == 1 else shape)


def from_matrices(up: Tensor, down: Tensor, shape: tuple[int, ...], scale: float) -> Factor:
    """Return the factor of matrices, in the shapes that files have.

    Args:
        up: [out, rank].
        down: [rank, in * height * width].
        shape: Of the module's weight: (out, in) or (out, in, height, width).
        scale: Of their product.
    """
    ones = (1,) * (len(shape) - 2)
    rank = down.shape[0]
    return Factor(down.reshape(rank, *shape[1:]), up.reshape(shape[0], rank, *ones), scale)


def scaled(factor: Factor, share: float, scale: float) -> Factor:
    """Return a factor whose matrices are multiplied by `share`, and whose scale is `scale`.

    The larger matrix shrinks, or the smaller one grows: fp16 has no room for small numbers. A
    share that is a power of two changes no digit of any; otherwise the product is fp32.
    """
    if share == 1:
        return replace(factor, scale=scale)
    up, down = factor.up, factor.down
    if (up.abs().amax() >= down.abs().amax()) == (abs(share) < 1):
        return Factor(down, _times(up, share), scale)
    return Factor(_times(down, share), up, scale)


def _times(tensor: Tensor, share: float) -> Tensor:
    product = tensor.double() * share
    lowered = product.to(tensor.dtype)
    return lowered if lowered.double().equal(product) else product.float()
