"""The noise schedule of the base, and the solver's grid over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from lcm_lora.errors import UserError


@dataclass(frozen=True, slots=True)
class Schedule:
    """The schedule of z_t = alpha_t x0 + sigma_t eps.

    alpha_t = sqrt(abar_t) and sigma_t = sqrt(1 - abar_t) are float32 [T].
    """

    alphas: Tensor
    sigmas: Tensor

    def at(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Return (alpha_t, sigma_t), float32 [B, 1, 1, 1], for int64 timesteps [B]."""
        return self.alphas[timesteps, None, None, None], self.sigmas[timesteps, None, None, None]

    def diffuse(self, x0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return z_t = alpha_t x0 + sigma_t eps, in fp32.

        Half precision would be off by whole per cents near t = 0, where the recursion is grounded.
        """
        alpha, sigma = self.at(timesteps)
        return alpha * x0.float() + sigma * noise.float()

    def to(self, device: torch.device) -> Schedule:
        """Return the schedule on `device`."""
        return Schedule(self.alphas.to(device), self.sigmas.to(device))


def schedule_of(config: Mapping[str, Any]) -> Schedule:
    """Return the schedule that a diffusers scheduler config describes."""
    abar = DDIMScheduler.from_config(dict(config)).alphas_cumprod.double()
    return Schedule(abar.sqrt().float(), (1 - abar).sqrt().float())


@dataclass(frozen=True, slots=True)
class Grid:
    """The solver's N points, ascending: from point n it steps to previous_n.

    int64 [N] both: tau_n = (n + 1) k - 1, previous_n = tau_{n-1} and previous_0 = 0.
    """

    points: Tensor
    previous: Tensor

    @property
    def skip(self) -> int:
        """The skipping interval k."""
        return int(self.points[0]) + 1

    def to(self, device: torch.device) -> Grid:
        """Return the grid on `device`."""
        return Grid(self.points.to(device), self.previous.to(device))


def solver_grid(training_steps: int, count: int) -> Grid:
    """Return the grid of `count` points over `training_steps` (LCM section 4.3).

    Raises:
        UserError: `count` does not divide `training_steps`; inference would then start at a noise
            level that was never trained.
    """
    if training_steps % count:
        raise UserError(
            f"distill.grid: {count} does not divide the base's {training_steps} training steps; "
            "take 50, 40, 25 or another divisor"
        )
    skip = training_steps // count
    points = torch.arange(1, count + 1) * skip - 1
    previous = torch.cat([torch.zeros(1, dtype=torch.int64), points[:-1]])
    return Grid(points, previous)
