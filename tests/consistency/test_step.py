"""The whole step, against a twin in numpy float64 and against data whose answer is known."""

import numpy as np
import pytest
import torch
from torch import Tensor

from lcm_lora.consistency.objective import distance
from lcm_lora.consistency.prediction import PredictionType
from lcm_lora.consistency.schedule import schedule_of, solver_grid
from lcm_lora.consistency.step import Conditioning, Draws, distillation_step

SD = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}


def network(scale: float):
    """Return a denoiser that depends on everything it is told."""

    def denoise(z: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        told = conditioning["prompt_embeds"].mean((1, 2))[:, None, None, None]
        return scale * torch.tanh(z) + 0.1 * told + 0.0002 * t[:, None, None, None]

    return denoise


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_step_is_algorithm_one(prediction: PredictionType) -> None:
    rng = torch.Generator().manual_seed(3)
    x0, noise = torch.randn(2, 6, 4, 2, 2, generator=rng)
    caption, empty = torch.randn(2, 6, 3, 5, generator=rng)
    index = torch.tensor([0, 1, 7, 25, 48, 49])
    w = torch.linspace(2, 14, 6)[:, None, None, None]
    found = distillation_step(
        network(0.9),
        network(0.7),
        schedule_of(SD),
        solver_grid(1000, 50),
        prediction,
        x0,
        {"prompt_embeds": caption},
        {"prompt_embeds": empty},
        Draws(index, noise, w),
    )

    # The same, from the paper, one sample at a time.
    abar = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    alpha, sigma = np.sqrt(abar), np.sqrt(1 - abar)

    def call(scale: float, z: np.ndarray, t: int, told: Tensor) -> np.ndarray:
        return scale * np.tanh(z) + 0.1 * told.double().mean().item() + 0.0002 * t

    def estimate(output: np.ndarray, z: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
        if prediction == "epsilon":
            return (z - sigma[t] * output) / alpha[t], output
        if prediction == "sample":
            return output, (z - alpha[t] * output) / sigma[t]
        return alpha[t] * z - sigma[t] * output, alpha[t] * output + sigma[t] * z

    def f(scale: float, z: np.ndarray, t: int, told: Tensor) -> np.ndarray:
        s = 10.0 * t
        c_skip, c_out = 0.25 / (s**2 + 0.25), s / np.sqrt(s**2 + 0.25)
        return c_skip * z + c_out * estimate(call(scale, z, t, told), z, t)[0]

    for i, n in enumerate(index.tolist()):
        t, u = 20 * (n + 1) - 1, max(20 * n - 1, 0)
        z_t = alpha[t] * x0[i].double().numpy() + sigma[t] * noise[i].double().numpy()
        x_c, e_c = estimate(call(0.7, z_t, t, caption[i]), z_t, t)
        x_u, e_u = estimate(call(0.7, z_t, t, empty[i]), z_t, t)
        guidance = float(w[i])
        x_g, e_g = x_c + guidance * (x_c - x_u), e_c + guidance * (e_c - e_u)
        z_u = alpha[u] * x_g + sigma[u] * e_g
        for ours, twin in (
            (found.z_t, z_t),
            (found.z_u, z_u),
            (found.online, f(0.9, z_t, t, caption[i])),
            (found.target, f(0.9, z_u, u, caption[i])),
        ):
            np.testing.assert_allclose(ours[i].numpy(), twin, rtol=2e-3, atol=2e-4)


def test_the_teachers_last_step_is_the_target_itself() -> None:
    """At n = 0 the target is z_u, bit for bit: there the recursion touches the ground."""
    x0, noise = torch.randn(2, 3, 4, 2, 2, generator=torch.Generator().manual_seed(4))
    told = {"prompt_embeds": torch.zeros(3, 1, 1)}
    index = torch.tensor([0, 0, 5])
    found = distillation_step(
        network(0.9),
        network(0.7),
        schedule_of(SD),
        solver_grid(1000, 50),
        "epsilon",
        x0,
        told,
        told,
        Draws(index, noise, torch.ones(3, 1, 1, 1)),
    )
    assert torch.equal(found.target[:2], found.z_u[:2])
    assert not torch.equal(found.target[2], found.z_u[2])


def test_only_the_online_side_carries_gradient() -> None:
    weight = torch.ones((), requires_grad=True)
    x0, noise = torch.randn(2, 2, 1, 2, 2, generator=torch.Generator().manual_seed(5))
    told = {"prompt_embeds": torch.zeros(2, 1, 1)}
    found = distillation_step(
        lambda z, t, c: weight * z,
        lambda z, t, c: z,
        schedule_of(SD),
        solver_grid(1000, 50),
        "epsilon",
        x0,
        told,
        told,
        Draws(torch.tensor([3, 30]), noise, torch.zeros(2, 1, 1, 1)),
    )
    assert found.online.requires_grad
    assert not found.target.requires_grad


@pytest.mark.parametrize("count", [10, 50])
def test_on_gaussian_data_the_student_learns_the_product_of_the_steps(count: int) -> None:
    """For x0 ~ N(0, v I) all is a scalar times z, and the fixed point is known in closed form.

    The perfect denoiser is x0 = alpha v z / (alpha^2 v + sigma^2), one DDIM step from t to u is the
    factor d(t, u) = alpha_u a_t + sigma_u (1 - alpha_t a_t) / sigma_t, and a student with one free
    scalar a grid point must learn, for f(z_t, t), the product of the factors from t down to 0.
    """
    variance = 0.7
    schedule, grid = schedule_of(SD), solver_grid(1000, count)
    alpha, sigma = schedule.alphas.double(), schedule.sigmas.double()
    perfect = alpha * variance / (alpha**2 * variance + sigma**2)
    t, u = grid.points, grid.previous
    factor = alpha[u] * perfect[t] + sigma[u] * (1 - alpha[t] * perfect[t]) / sigma[t]
    expected = factor.cumprod(0)

    learned = torch.zeros(1000, requires_grad=True)

    def student(z: Tensor, timesteps: Tensor, _: Conditioning) -> Tensor:
        return learned[timesteps][:, None, None, None] * z

    def teacher(z: Tensor, timesteps: Tensor, _: Conditioning) -> Tensor:
        return perfect.float()[timesteps][:, None, None, None] * z

    generator = torch.Generator().manual_seed(6)
    told = {"prompt_embeds": torch.zeros(count, 1, 1)}
    # Each point learns from the one below it, so `count` sweeps settle the whole chain.
    for _ in range(count + 1):
        x0 = variance**0.5 * torch.randn(count, 1, 8, 8, generator=generator)
        noise = torch.randn(count, 1, 8, 8, generator=generator)
        draws = Draws(torch.arange(count), noise, torch.zeros(count, 1, 1, 1))
        found = distillation_step(student, teacher, schedule, grid, "sample", x0, told, told, draws)
        # Newton's step on the quadratic loss of each grid point's own scalar.
        (slope,) = torch.autograd.grad(distance(found.online, found.target, "l2", 0), learned)
        curvature = 2 * (found.z_t**2).sum((1, 2, 3)) / found.online.numel()
        with torch.no_grad():
            learned[t] -= slope[t] / curvature
    np.testing.assert_allclose(learned[t].detach(), expected, rtol=2e-4)
