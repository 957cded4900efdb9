"""Draws belong to a sample's place in the run, and to nothing else."""

import torch

from lcm_lora.training.draws import SampleDraws, draw

SHAPE = (4, 3, 3)


def drawn(places: range, seed: int = 1) -> SampleDraws:
    return draw(seed, places, SHAPE, 50, (4.0, 9.0))


def tensors(draws: SampleDraws) -> list[torch.Tensor]:
    return [draws.posterior, draws.step.noise, draws.step.index, draws.step.w]


def test_draws_do_not_depend_on_the_batch() -> None:
    whole, parts = drawn(range(12)), [drawn(range(0, 5)), drawn(range(5, 12))]
    for one, *cut in zip(tensors(whole), *map(tensors, parts), strict=True):
        assert torch.equal(one, torch.cat(cut))


def test_other_places_and_other_seeds_draw_otherwise() -> None:
    first = tensors(drawn(range(8)))
    for other in (drawn(range(8, 16)), drawn(range(8), seed=2)):
        assert not any(torch.equal(a, b) for a, b in zip(first, tensors(other), strict=True))


def test_draws_have_the_laws_they_should() -> None:
    draws = drawn(range(4000))
    for noise in (draws.posterior, draws.step.noise):
        assert abs(float(noise.mean())) < 0.01
        assert abs(float(noise.std()) - 1) < 0.01
    assert abs(float((draws.posterior * draws.step.noise).mean())) < 0.01
    counts = torch.bincount(draws.step.index, minlength=50)
    assert len(counts) == 50
    assert float(((counts - 80) ** 2 / 80).sum()) < 90  # chi squared, 49 degrees: p of 3e-4
    w = draws.step.w.flatten()
    assert 4.0 <= float(w.min()) < 4.1 < 8.9 < float(w.max()) <= 9.0
