"""The judge of looks: does a picture show what its caption says, in the looks that it should have?

A smaller network than the attribute judge, trained on rendered scenes in no look, in each, and in
both: as they are drawn, and as the world's autoencoder gives them back. It never saw a generated
picture.

Legend: B pictures, H = W pixels, K kinds of figure (shape x colour), Z size words, G grounds.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from lcm_lora.params.score import Look
from lcm_lora.shapes.judge import Attributes, residual_blocks
from lcm_lora.shapes.scenes import GROUNDS, PAIRS, RADII

LOOKS: tuple[Look, ...] = get_args(Look)


@dataclass(frozen=True, slots=True)
class Sight:
    """What pictures show: their attributes, and which of `LOOKS` they have, bool [B, 2]."""

    attributes: Attributes
    looks: Tensor

    def has_exactly(self, looks: Collection[Look]) -> Tensor:
        """Return bool [B]: these looks are there, and no other."""
        wanted = torch.tensor([look in looks for look in LOOKS], device=self.looks.device)
        return (self.looks == wanted).all(1)


class LooksJudge(nn.Module):
    """Find the figures, the ground and the looks of a picture of 32 pixels a side."""

    def __init__(self, width: int = 36) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = residual_blocks(width)
        self.places = nn.Conv2d(3 * width, len(PAIRS) * len(RADII), 1)
        self.ground = nn.Linear(3 * width, len(GROUNDS))
        self.looks = nn.Linear(3 * width, len(LOOKS))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits of float [B, 3, H, W] in -1..1.

        Returns:
            Of figures [B, K, Z], of grounds [B, G], and of looks [B, 2].
        """
        features = self.blocks(self.stem(pictures))
        found = self.places(features).amax((2, 3)).unflatten(1, (len(PAIRS), len(RADII)))
        everywhere = features.mean((2, 3))
        return found, self.ground(everywhere), self.looks(everywhere)

    @torch.inference_mode()
    def read(self, pictures: Tensor) -> Sight:
        """Return what float pictures [B, 3, H, W] in -1..1 show."""
        found, ground, looks = self(pictures)
        return Sight(Attributes(found > 0, ground.argmax(1)), looks > 0)

    def loss(self, pictures: Tensor, truth: Sight) -> Tensor:
        """Return the training loss: cross-entropy of every figure, of the ground and of looks."""
        found, ground, looks = self(pictures)
        wanted = truth.attributes.figures.float()
        figures = F.binary_cross_entropy_with_logits(found, wanted, reduction="sum")
        seen = F.binary_cross_entropy_with_logits(looks, truth.looks.float())
        return figures / len(pictures) + F.cross_entropy(ground, truth.attributes.ground) + seen


def load_looks_judge(path: Path) -> LooksJudge:
    """Return the trained judge of `path`, in fp32 and evaluation mode."""
    judge = LooksJudge()
    judge.load_state_dict(
        {k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()}
    )
    return judge.eval()
