"""The judge of looks: does a picture show what its caption says, in the looks that it should have?

A smaller network than the attribute judge, trained on rendered scenes in no look, in each, and in
both: as they are drawn, and as the world's autoencoder gives them back. It looks for every kind of
figure whole and in ink, so that one figure in the wrong look is enough to say no. It never saw a
generated picture.

Legend: B pictures, H = W pixels, K kinds of figure (shape x colour), Z size words, G grounds.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from lcm_lora.params.score import Look
from lcm_lora.shapes.judge import Attributes, residual_blocks
from lcm_lora.shapes.scenes import GROUNDS, PAIRS, RADII


@dataclass(frozen=True, slots=True)
class Sight:
    """What pictures show: figures bool [B, K, Z] drawn whole and in ink, the ground, and dusk."""

    whole: Tensor
    inked: Tensor
    ground: Tensor
    """int64 [B]."""
    dusk: Tensor
    """bool [B]."""

    @property
    def attributes(self) -> Attributes:
        """What is there, in whatever look."""
        return Attributes(self.whole | self.inked, self.ground)

    def has_exactly(self, looks: Collection[Look]) -> Tensor:
        """Return bool [B]: every figure and the ground have these looks, and no other."""
        wrong = self.whole if "ink" in looks else self.inked
        return ~wrong.flatten(1).any(1) & (self.dusk == ("dusk" in looks))

    def __getitem__(self, chosen: Tensor) -> Sight:
        """Return what the chosen pictures show."""
        return Sight(*(part[chosen] for part in (self.whole, self.inked, self.ground, self.dusk)))

    @classmethod
    def of(cls, attributes: Attributes, looks: Tensor) -> Sight:
        """Return what scenes show in looks, bool [B, 2]: ink, dusk."""
        ink = looks[:, 0, None, None]
        figures = attributes.figures
        return cls(figures & ~ink, figures & ink, attributes.ground, looks[:, 1])


class LooksJudge(nn.Module):
    """Find the figures, the ground and the looks of a picture of 32 pixels a side."""

    def __init__(self, width: int = 36) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = residual_blocks(width)
        self.places = nn.Conv2d(3 * width, 2 * len(PAIRS) * len(RADII), 1)
        self.ground = nn.Linear(3 * width, len(GROUNDS))
        self.dusk = nn.Linear(3 * width, 1)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits of float [B, 3, H, W] in -1..1.

        Returns:
            Of figures, whole and in ink [B, 2, K, Z]; of grounds [B, G]; of dusk [B].
        """
        features = self.blocks(self.stem(pictures))
        found = self.places(features).amax((2, 3)).unflatten(1, (2, len(PAIRS), len(RADII)))
        everywhere = features.mean((2, 3))
        return found, self.ground(everywhere), self.dusk(everywhere)[:, 0]

    @torch.inference_mode()
    def read(self, pictures: Tensor) -> Sight:
        """Return what float pictures [B, 3, H, W] in -1..1 show."""
        found, ground, dusk = self(pictures)
        return Sight(found[:, 0] > 0, found[:, 1] > 0, ground.argmax(1), dusk > 0)

    def loss(self, pictures: Tensor, truth: Sight) -> Tensor:
        """Return the training loss: cross-entropy of every figure, of the ground and of dusk."""
        found, ground, dusk = self(pictures)
        wanted = torch.stack([truth.whole, truth.inked], 1).float()
        figures = F.binary_cross_entropy_with_logits(found, wanted, reduction="sum")
        light = F.binary_cross_entropy_with_logits(dusk, truth.dusk.float())
        return figures / len(pictures) + F.cross_entropy(ground, truth.ground) + light


def load_looks_judge(path: Path) -> LooksJudge:
    """Return the trained judge of `path`, in fp32 and evaluation mode."""
    judge = LooksJudge()
    judge.load_state_dict(
        {k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()}
    )
    return judge.eval()
