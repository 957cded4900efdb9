"""Compression is the best there is, by Eckart and Young, and says what it costs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from loras import SHAPES, assert_equal, random_lora

from lcm_lora.combining.compress import (
    compress,
    difference,
    losses,
    nearest,
    norm,
    overall,
    singular,
)
from lcm_lora.combining.delta import Factor, delta
from lcm_lora.errors import UserError


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("rank", [1, 3, 5])
def test_the_error_is_the_singular_values_that_are_dropped(seed: int, rank: int) -> None:
    """Against numpy's decomposition of the whole weight."""
    for factor in random_lora(seed, ranks=(7, 5, 9), scales=(0.3, 2)).values():
        values = np.linalg.svd(delta(factor).flatten(1).numpy(), compute_uv=False)
        dropped = math.hypot(*values[rank:])
        kept = nearest(factor, rank)
        assert kept.rank == min(rank, factor.full_rank)
        assert difference(factor, kept) == pytest.approx(dropped, rel=1e-5, abs=1e-5)
        truth = torch.linalg.matrix_norm((delta(factor) - delta(kept)).flatten(1)).item()
        assert difference(factor, kept) == pytest.approx(truth, rel=1e-6)
        assert norm(factor) == pytest.approx(math.hypot(*values))


@pytest.mark.parametrize("seed", range(6))
def test_singular_values_are_those_of_the_whole_weight(seed: int) -> None:
    for factor in random_lora(seed, ranks=(3, 12), scales=(0.3, 2)).values():
        found = singular(factor)
        whole = np.linalg.svd(delta(factor).flatten(1).numpy(), compute_uv=False)
        np.testing.assert_allclose(found.values.numpy(), whole[: len(found.values)], atol=1e-9)
        back = found.left @ torch.diag(found.values) @ found.right
        torch.testing.assert_close(back, delta(factor).flatten(1))


def test_a_rank_that_a_module_has_is_exact() -> None:
    lora = random_lora(0, ranks=(2, 8))
    kept = compress(lora, 8)
    assert_equal(kept, lora)
    assert overall(losses(lora, kept)) == 0
    mixed = compress(lora, 2)
    for loss, (module, factor) in zip(losses(lora, mixed), lora.items(), strict=True):
        assert loss.module == module
        assert (loss.relative > 1e-3) == (factor.rank > 2)


def test_a_sum_with_itself_needs_no_more_rank() -> None:
    (factor,) = random_lora(5, dict([next(iter(SHAPES.items()))])).values()
    twice = Factor(torch.cat([factor.down] * 2), torch.cat([factor.up] * 2, dim=1), factor.scale)
    assert difference(twice, nearest(twice, factor.rank)) < 1e-6 * norm(twice)


def test_a_lower_rank_never_comes_nearer() -> None:
    lora = random_lora(6, ranks=(6,))
    errors = [overall(losses(lora, compress(lora, rank))) for rank in range(1, 6)]
    assert errors == sorted(errors, reverse=True)
    assert 0 < errors[-1] < errors[0] < 1


def test_the_same_sum_is_compressed_to_the_same_digits() -> None:
    lora = random_lora(7, ranks=(6,))
    assert_equal(compress(lora, 3), compress(lora, 3))
    for factor in compress(lora, 3).values():
        up, down = factor.up.flatten(1), factor.down.flatten(1)
        largest = up.gather(0, up.abs().argmax(0, keepdim=True))
        assert (largest > 0).all()
        torch.testing.assert_close(up.norm(dim=0), down.norm(dim=1))


@pytest.mark.parametrize("rank", [0, -1, 7, 4096])
def test_a_rank_that_no_module_has_is_refused(rank: int) -> None:
    with pytest.raises(UserError, match=r"ranks of at most 6; name one from 1 to 6"):
        compress(random_lora(0, ranks=(6, 2)), rank)


def test_nothing_is_compressed_to_nothing() -> None:
    (factor,) = random_lora(5, dict([next(iter(SHAPES.items()))])).values()
    zero = Factor(factor.down, torch.zeros_like(factor.up), 1.0)
    assert difference(zero, nearest(zero, 1)) == 0
    module = next(iter(SHAPES))
    assert overall(losses({module: zero}, {module: nearest(zero, 1)})) == 0
