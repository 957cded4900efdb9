"""Laws of the mathematics, against closed forms and diffusers' own schedulers."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, LCMScheduler

from lcm_lora.consistency.objective import boundary, consistency, distance
from lcm_lora.consistency.prediction import convert
from lcm_lora.consistency.schedule import schedule_of, solver_grid
from lcm_lora.consistency.solver import guide, jump, lcm_range
from lcm_lora.errors import UserError
from lcm_lora.params.distill import Guidance

SD = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
KINDS = ("epsilon", "sample", "v_prediction")


@pytest.fixture
def latents() -> torch.Tensor:
    return torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(1))


def columns(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None, None, None]


def test_schedule_is_stable_diffusions() -> None:
    schedule = schedule_of(SD)
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    abar = np.cumprod(1 - betas)
    np.testing.assert_allclose(schedule.alphas.numpy(), np.sqrt(abar), rtol=1e-4)
    np.testing.assert_allclose(schedule.sigmas.numpy(), np.sqrt(1 - abar), rtol=1e-4)
    assert float(schedule.alphas[999]) == pytest.approx(0.06826, abs=1e-5)  # not zero
    torch.testing.assert_close(schedule.alphas**2 + schedule.sigmas**2, torch.ones(1000))


def test_noising_is_exact_where_half_precision_is_not(latents: torch.Tensor) -> None:
    schedule = schedule_of(SD)
    t = torch.zeros(5, dtype=torch.int64)
    noised = schedule.diffuse(latents.bfloat16(), latents, t)
    assert noised.dtype == torch.float32
    abar = 1 - 0.00085
    expected = abar**0.5 * latents.bfloat16().double() + (1 - abar) ** 0.5 * latents.double()
    torch.testing.assert_close(noised.double(), expected, rtol=1e-5, atol=1e-6)


def test_grid_of_fifty() -> None:
    grid = solver_grid(1000, 50)
    assert grid.skip == 20
    assert grid.points[[0, 1, 49]].tolist() == [19, 39, 999]
    assert grid.previous[[0, 1, 49]].tolist() == [0, 19, 979]


@pytest.mark.parametrize("count", [10, 25, 40, 50, 100])
@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_every_step_of_inference_starts_on_the_training_grid(count: int, steps: int) -> None:
    scheduler = LCMScheduler(**SD, original_inference_steps=count)
    scheduler.set_timesteps(steps)
    points = set(solver_grid(1000, count).points.tolist())
    assert {int(t) for t in scheduler.timesteps} <= points
    assert int(scheduler.timesteps[0]) == 999


def test_a_grid_that_does_not_divide_is_refused() -> None:
    with pytest.raises(UserError, match=r"distill\.grid: 48 does not divide"):
        solver_grid(1000, 48)


@pytest.mark.parametrize("kind", KINDS)
def test_conversion_explains_the_latent(kind: str, latents: torch.Tensor) -> None:
    alpha = columns(0.99, 0.8, 0.5, 0.2, 0.07)
    sigma = (1 - alpha**2).sqrt()
    x0, eps = convert(latents.flip(0), latents, alpha, sigma, kind)  # type: ignore[arg-type]
    torch.testing.assert_close(alpha * x0 + sigma * eps, latents, rtol=1e-5, atol=1e-5)


def test_the_three_predictions_of_one_pair_agree(latents: torch.Tensor) -> None:
    x0, eps = latents, latents.flip(0)
    alpha, sigma = columns(*[0.6] * 5), columns(*[0.8] * 5)
    z = alpha * x0 + sigma * eps
    outputs = {"epsilon": eps, "sample": x0, "v_prediction": alpha * eps - sigma * x0}
    for kind, output in outputs.items():
        for found, true in zip(convert(output, z, alpha, sigma, kind), (x0, eps), strict=True):  # type: ignore[arg-type]
            torch.testing.assert_close(found, true, rtol=1e-5, atol=1e-5)


def test_guidance_conventions() -> None:
    c, u = torch.tensor([2.0]), torch.tensor([1.0])
    assert guide(c, u, torch.tensor([0.0])) == c
    g = 7.5
    w, _ = lcm_range(Guidance(convention="imagen", low=g, high=g))
    assert guide(c, u, torch.tensor([w])) == u + g * (c - u)
    assert lcm_range(Guidance(convention="lcm", low=2, high=14)) == (2, 14)


def test_jumping_to_where_one_is_changes_nothing(latents: torch.Tensor) -> None:
    alpha, sigma = columns(*[0.6] * 5), columns(*[0.8] * 5)
    x0, eps = convert(latents.flip(0), latents, alpha, sigma, "epsilon")
    torch.testing.assert_close(jump(x0, eps, alpha, sigma), latents, rtol=1e-5, atol=1e-5)


def test_jump_is_the_ddim_step_of_diffusers(latents: torch.Tensor) -> None:
    scheduler = DDIMScheduler(**SD, clip_sample=False, set_alpha_to_one=False)
    scheduler.set_timesteps(50)  # leading spacing: from 40 to 20
    schedule, output = schedule_of(SD), latents.flip(0)
    expected = scheduler.step(output, 40, latents).prev_sample
    pair = [torch.full((5,), t) for t in (40, 20)]
    x0, eps = convert(output, latents, *schedule.at(pair[0]), "epsilon")
    found = jump(x0, eps, *schedule.at(pair[1]))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_jump_is_the_exponential_integrator(latents: torch.Tensor) -> None:
    """TCD's form: (sigma_s / sigma_t) z - alpha_s (exp(-h) - 1) x0, h = lambda_s - lambda_t."""
    schedule = schedule_of(SD)
    t, s = torch.full((5,), 759), torch.full((5,), 259)
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.at(t), schedule.at(s)
    x0, eps = convert(latents.flip(0), latents, alpha_t, sigma_t, "epsilon")
    h = (alpha_s / sigma_s).log() - (alpha_t / sigma_t).log()
    expected = sigma_s / sigma_t * latents - alpha_s * ((-h).exp() - 1) * x0
    torch.testing.assert_close(jump(x0, eps, alpha_s, sigma_s), expected, rtol=1e-4, atol=1e-4)


def test_the_boundary_is_exact_at_zero_and_gone_at_the_first_grid_point(
    latents: torch.Tensor,
) -> None:
    c_skip, c_out = boundary(torch.tensor([0, 19, 999]))
    assert (float(c_skip[0]), float(c_out[0])) == (1.0, 0.0)
    assert float(c_skip[1]) == pytest.approx(6.925e-6, rel=1e-3)
    assert float(c_out[1]) == pytest.approx(0.9999965, abs=1e-7)
    zero = torch.zeros(5, dtype=torch.int64)
    assert torch.equal(consistency(latents, latents.flip(0), zero), latents)


def test_distances(latents: torch.Tensor) -> None:
    other = latents.flip(0)
    difference = (latents - other).double().numpy()
    l2, huber = np.mean(difference**2), np.mean(np.sqrt(difference**2 + 0.1**2) - 0.1)
    assert float(distance(latents, other, "l2", 0.1)) == pytest.approx(l2, rel=1e-5)
    assert float(distance(latents, other, "huber", 0.1)) == pytest.approx(huber, rel=1e-5)
    assert float(distance(latents, latents, "huber", 0.1)) == 0
