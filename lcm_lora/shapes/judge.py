"""The attribute judge: does a picture show exactly what its caption says?

A small convolutional network, trained on rendered scenes only, looks for every kind of figure at
every place and reads the ground. It never saw the generator, its captions or its text encoder.

Legend: B pictures, H = W pixels, K kinds of figure (shape x colour), Z size words, G grounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from lcm_lora.shapes.scenes import GROUNDS, PAIRS, RADII, Scene

_SIZES = tuple(RADII)
_GROUNDS = tuple(GROUNDS)


@dataclass(frozen=True, slots=True)
class Attributes:
    """What scenes hold: `figures` bool [B, K, Z], `ground` int64 [B]."""

    figures: Tensor
    ground: Tensor

    @classmethod
    def of(cls, scenes: Sequence[Scene]) -> Attributes:
        """Read the attributes that the captions of `scenes` promise."""
        figures = torch.zeros(len(scenes), len(PAIRS), len(_SIZES), dtype=torch.bool)
        for i, scene in enumerate(scenes):
            for figure in scene.figures:
                kind = PAIRS.index((figure.shape, figure.colour))
                figures[i, kind, _SIZES.index(figure.size)] = True
        return cls(figures, torch.tensor([_GROUNDS.index(scene.ground) for scene in scenes]))

    def agree(self, other: Attributes) -> Tensor:
        """Return bool [B]: exactly the same kinds of figure on the same ground, sizes aside."""
        kinds = (self.figures.any(2) == other.figures.any(2)).all(1)
        return kinds & (self.ground == other.ground)


class AttributeJudge(nn.Module):
    """Find the figures and the ground of a picture of 32 pixels a side."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = residual_blocks(width)
        self.places = nn.Conv2d(3 * width, len(PAIRS) * len(_SIZES), 1)
        self.ground = nn.Linear(3 * width, len(_GROUNDS))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits of figures [B, K, Z] and grounds [B, G] for float [B, 3, H, W] in -1..1."""
        features = self.blocks(self.stem(pictures))
        found = self.places(features).amax((2, 3)).unflatten(1, (len(PAIRS), len(_SIZES)))
        return found, self.ground(features.mean((2, 3)))

    @torch.inference_mode()
    def read(self, pictures: Tensor) -> Attributes:
        """Return what float pictures [B, 3, H, W] in -1..1 show."""
        found, ground = self(pictures)
        return Attributes(found > 0, ground.argmax(1))

    def loss(self, pictures: Tensor, truth: Attributes) -> Tensor:
        """Return the training loss: cross-entropy of every figure and of the ground."""
        found, ground = self(pictures)
        figures = F.binary_cross_entropy_with_logits(found, truth.figures.float(), reduction="sum")
        return figures / len(pictures) + F.cross_entropy(ground, truth.ground)


def residual_blocks(width: int) -> nn.Sequential:
    """Return what turns [B, width, H, W] into features [B, 3 width, H / 4, W / 4]."""
    return nn.Sequential(
        _Residual(width, 2 * width, stride=2),
        _Residual(2 * width, 2 * width),
        _Residual(2 * width, 3 * width, stride=2),
        _Residual(3 * width, 3 * width),
    )


class _Residual(nn.Module):
    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.silu(self.norm1(self.conv1(x)))))
        return F.silu(y + self.shortcut(x))


def load_judge(folder: Path) -> AttributeJudge:
    """Return the trained judge of `folder`, in fp32 and evaluation mode."""
    judge = AttributeJudge()
    weights = load_file(folder / "judge.safetensors")
    judge.load_state_dict(
        {k: v.float() if v.is_floating_point() else v for k, v in weights.items()}
    )
    return judge.eval()
