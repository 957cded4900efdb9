"""One step of latent consistency distillation, as one function."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lcm_lora.consistency.denoiser import Conditioning, Denoiser
from lcm_lora.consistency.objective import consistency
from lcm_lora.consistency.prediction import PredictionType, convert
from lcm_lora.consistency.schedule import Grid, Schedule
from lcm_lora.consistency.solver import guide, jump


@dataclass(frozen=True, slots=True)
class Draws:
    """The randomness of one step."""

    index: Tensor
    """n, int64 [B]: the grid point each sample is diffused to."""
    noise: Tensor
    """eps, float32 [B, C, h, w]."""
    w: Tensor
    """Guidance in the LCM paper's convention, float32 [B, 1, 1, 1]."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """What the distance compares, and what led there."""

    online: Tensor
    """f(z_t, t) of the student; carries the gradient."""
    target: Tensor
    """f(z_u, u) of the same student, without gradient."""
    z_t: Tensor
    z_u: Tensor


def distillation_step(
    student: Denoiser,
    teacher: Denoiser,
    schedule: Schedule,
    grid: Grid,
    prediction: PredictionType,
    x0: Tensor,
    conditioning: Conditioning,
    empty: Conditioning,
    draws: Draws,
) -> Predictions:
    """Follow algorithm 1 of LCM (lines 5 to 9), with the target network equal to the student.

    The student runs first and last with its adapter on; the teacher in between without. So the
    adapter is on again when the caller goes backward, as gradient checkpointing needs.

    Args:
        student: The adapted denoiser.
        teacher: The frozen one; called once, on both guidance branches as a batch of 2 B.
        schedule: Of the base.
        grid: Of the solver.
        prediction: What both networks predict.
        x0: Clean scaled latents, float32 [B, C, h, w].
        conditioning: Of the captions.
        empty: Of the unconditional branch, B rows too; what it lacks (SDXL's sizes) is shared.
        draws: The randomness.
    """
    # 1. diffuse to z_t, t = tau_n; the solver will step to u, one grid point lower
    t, u = grid.points[draws.index], grid.previous[draws.index]
    alpha_t, sigma_t = schedule.at(t)
    z_t = schedule.diffuse(x0, draws.noise, t)

    # 2. the student's consistency function at (z_t, t)
    student_x0, _ = convert(student(z_t, t, conditioning), z_t, alpha_t, sigma_t, prediction)
    online = consistency(z_t, student_x0, t)

    with torch.no_grad():
        # 3. the teacher's guided estimate and one DDIM step with it, to z_u
        both = {
            name: torch.cat([told, empty.get(name, told)]) for name, told in conditioning.items()
        }
        output = teacher(torch.cat([z_t, z_t]), torch.cat([t, t]), both)
        conditional, unconditional = output.chunk(2)
        guided = guide(conditional, unconditional, draws.w)
        z_u = jump(*convert(guided, z_t, alpha_t, sigma_t, prediction), *schedule.at(u))

        # 4. the student's consistency function at (z_u, u): the target
        target_x0, _ = convert(student(z_u, u, conditioning), z_u, *schedule.at(u), prediction)
        target = consistency(z_u, target_x0, u)
    return Predictions(online, target, z_t, z_u)
