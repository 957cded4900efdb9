"""Adapters are vectors: the laws of adding them, over random ones."""

from __future__ import annotations

import itertools
import random

import pytest
import torch
from loras import SHAPES, assert_equal, assert_same, deltas, random_lora

from lcm_lora.combining.add import add
from lcm_lora.combining.compress import norm
from lcm_lora.combining.delta import Factor, Lora, delta, scaled

CASES = range(12)


def one(case: int) -> Lora:
    """Return a LoRA on some of the modules, its ranks and scales at random."""
    rng = random.Random(case)
    shapes = {m: s for m, s in SHAPES.items() if rng.random() < 0.8} or SHAPES
    ranks = [rng.randint(1, 5) for _ in range(3)]
    return random_lora(case, shapes, ranks, [rng.choice([0.125, 1 / 3, 1, 7]) for _ in range(2)])


@pytest.mark.parametrize("case", CASES)
def test_the_sum_is_the_sum_of_what_is_added(case: int) -> None:
    rng = random.Random(case)
    terms = [(one(10 * case + i), rng.uniform(-2, 2)) for i in range(rng.randint(1, 4))]
    total = add(terms)
    expected: dict[object, torch.Tensor] = {}
    for lora, weight in terms:
        for module, value in deltas(lora).items():
            expected[module] = expected.get(module, 0) + weight * value
    assert_same(deltas(total), expected, 3e-7)  # type: ignore[arg-type]
    for module, factor in total.items():
        assert factor.rank == sum(lora[module].rank for lora, _ in terms if module in lora)


@pytest.mark.parametrize("case", CASES)
def test_an_adapter_and_its_opposite_are_nothing(case: int) -> None:
    lora, weight = one(case), random.Random(case).uniform(0.1, 3)
    for module, factor in add([(lora, weight), (lora, -weight)]).items():
        assert norm(factor) < 1e-6 * norm(lora[module])


@pytest.mark.parametrize("case", CASES)
def test_neither_order_nor_brackets_matter(case: int) -> None:
    terms = [(one(3 * case + i), weight) for i, weight in enumerate((1.0, 0.8, -0.4))]
    first, *others = (deltas(add(order)) for order in itertools.permutations(terms))
    for other in others:
        assert_same(first, other, 1e-6)
    nested = add([(add(terms[:2]), 1.0), terms[2]])
    assert_same(first, deltas(nested), 1e-6)


@pytest.mark.parametrize("case", CASES)
def test_a_weight_is_a_scale(case: int) -> None:
    lora = one(case)
    louder = {module: Factor(f.down, f.up, 3 * f.scale) for module, f in lora.items()}
    assert_same(deltas(add([(lora, 3.0)])), deltas(add([(louder, 1.0)])), 1e-12)
    assert_same(deltas(add([(louder, 1 / 3)])), deltas(lora), 1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_one_adapter_keeps_every_digit(dtype: torch.dtype) -> None:
    lora = random_lora(1, ranks=(2, 3), scales=(1 / 3, 3.5), dtype=dtype)
    assert_equal(add([(lora, 1.0)]), lora)
    halved = add([(lora, 0.7)])
    assert all(torch.equal(halved[m].up, factor.up) for m, factor in lora.items())
    assert add([(lora, 0.0)]) == {}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("share", [0.5, 4, -1, 0.3, -7])
def test_a_power_of_two_costs_no_digit(dtype: torch.dtype, share: float) -> None:
    (factor,) = random_lora(2, dict([next(iter(SHAPES.items()))]), dtype=dtype).values()
    moved = scaled(factor, share, factor.scale)
    assert torch.allclose(delta(moved), share * delta(factor), rtol=1e-6, atol=1e-7)
    if abs(share) in {0.5, 4, 1}:
        assert torch.equal(delta(moved), share * delta(factor))
        assert {moved.up.dtype, moved.down.dtype} == {dtype}


def test_half_precision_keeps_small_numbers() -> None:
    """An up of 1e-4 times 1/64 has no room in fp16; a down of 1 has."""
    factor = Factor(torch.ones(1, 4).half(), torch.full((4, 1), 1e-4).half(), 1 / 64)
    moved = scaled(factor, factor.scale, 1.0)
    assert torch.equal(delta(moved), delta(factor))


def test_a_convolution_of_one_pixel_is_a_matrix_too() -> None:
    ((module, shape),) = ((m, s) for m, s in SHAPES.items() if s[2:] == (1, 1))
    as_matrix = random_lora(3, {module: shape[:2]})
    as_kernel = random_lora(4, {module: shape})
    total = add([(as_matrix, 1.0), (as_kernel, 1.0)])
    assert total[module].shape == shape
    flat = delta(as_matrix[module]) + delta(as_kernel[module]).flatten(1)
    torch.testing.assert_close(delta(total[module]).flatten(1), flat)
