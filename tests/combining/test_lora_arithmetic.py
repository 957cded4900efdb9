"""How adapters lie to each other, against the whole weights and scipy's angles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from loras import ATTENTION, SHAPES, random_lora
from scipy.linalg import orth, subspace_angles

from lcm_lora.combining.add import add
from lcm_lora.combining.arithmetic import (
    Side,
    cosine,
    cosine_of_all,
    effective_rank,
    energies,
    group,
    inner,
    overlap,
    rank_for,
)
from lcm_lora.combining.compress import singular
from lcm_lora.combining.delta import Factor, Lora, Module, delta, from_matrices

PAIRS = [(random_lora(i, ranks=(2, 4)), random_lora(100 + i, ranks=(3,))) for i in range(4)]


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_the_inner_product_is_that_of_the_whole_weights(a: Lora, b: Lora) -> None:
    for module in a:
        whole = (delta(a[module]) * delta(b[module])).sum().item()
        assert inner(a[module], b[module]) == pytest.approx(whole)
        flat = torch.nn.functional.cosine_similarity(
            delta(a[module]).flatten(), delta(b[module]).flatten(), dim=0
        )
        assert cosine(a[module], b[module]) == pytest.approx(flat.item())
        assert cosine(a[module], b[module]) == pytest.approx(cosine(b[module], a[module]))
    first, second = (torch.cat([delta(x[m]).flatten() for m in a]) for x in (a, b))
    whole = torch.nn.functional.cosine_similarity(first, second, dim=0).item()
    assert cosine_of_all(a, b) == pytest.approx(whole)


def test_an_adapter_lies_along_itself_and_against_its_opposite() -> None:
    a = random_lora(0)
    opposite = add([(a, -2.0)])
    assert cosine_of_all(a, a) == pytest.approx(1)
    assert cosine_of_all(a, opposite) == pytest.approx(-1)
    alone = {module: factor for i, (module, factor) in enumerate(a.items()) if i == 0}
    rest = {module: factor for module, factor in a.items() if module not in alone}
    assert cosine_of_all(alone, rest) == 0
    zero = {module: Factor(f.down, 0 * f.up, 1.0) for module, f in a.items()}
    assert cosine_of_all(a, zero) == 0


@pytest.mark.parametrize("rank", [1, 2, 4])
@pytest.mark.parametrize("side", ["rows", "columns"])
def test_overlap_is_by_principal_angles(rank: int, side: Side) -> None:
    for a, b in PAIRS:
        for module in a:
            bases = []
            for factor in (a[module], b[module]):
                u, _, v = np.linalg.svd(delta(factor).flatten(1).numpy())
                kept = min(rank, factor.full_rank)
                bases.append(orth(u[:, :kept] if side == "columns" else v[:kept].T))
            angles = np.cos(subspace_angles(*bases))
            expected = (angles**2).sum() / min(base.shape[1] for base in bases)
            assert overlap(a[module], b[module], rank, side) == pytest.approx(expected)


def test_overlap_of_one_within_another_is_one_and_of_orthogonal_ones_none() -> None:
    eye = torch.eye(6)
    low = from_matrices(eye[:, :2], eye[:2], (6, 6), 1.0)
    wide = from_matrices(eye[:, :4], eye[:4], (6, 6), 1.0)
    other = from_matrices(eye[:, 4:], eye[4:], (6, 6), 1.0)
    assert overlap(low, wide, 4, "rows") == pytest.approx(1)
    assert overlap(low, other, 4, "columns") == 0
    assert overlap(low, Factor(low.down, 0 * low.up, 1.0), 2, "rows") == 0


def test_random_subspaces_share_what_their_size_says() -> None:
    shapes = {module: (64, 64) for module in list(SHAPES)[:1]}
    (module,) = shapes
    found = [
        overlap(
            random_lora(i, shapes, (8,))[module],
            random_lora(500 + i, shapes, (8,))[module],
            8,
            "rows",
        )
        for i in range(40)
    ]
    assert np.mean(found) == pytest.approx(8 / 64, abs=0.02)


def test_effective_rank_counts_directions() -> None:
    eye = torch.eye(8)
    even = from_matrices(eye[:, :5], eye[:5], (8, 8), 3.0)
    assert effective_rank(even) == pytest.approx(5)
    one = from_matrices(eye[:, :5] * torch.tensor([1e3, 1e-3, 0, 0, 0]), eye[:5], (8, 8), 1.0)
    assert effective_rank(one) == pytest.approx(1, abs=1e-4)
    assert effective_rank(Factor(even.down, 0 * even.up, 1.0)) == 0
    for factor in random_lora(3, ranks=(4,)).values():
        assert 1 <= effective_rank(factor) <= factor.rank


def test_the_rank_for_a_share_of_energy() -> None:
    eye = torch.eye(4)
    factor = from_matrices(eye * torch.tensor([4.0, 2.0, 2.0, 1.0]), eye, (4, 4), 1.0)
    assert singular(factor).values.tolist() == pytest.approx([4, 2, 2, 1])
    assert [rank_for(factor, share) for share in (0.5, 16 / 25, 0.65, 24 / 25, 1)] == [
        1,
        1,
        2,
        3,
        4,
    ]


def test_energies_are_shares_of_the_whole() -> None:
    found = energies(random_lora(0))
    assert sum(found.values()) == pytest.approx(1)
    assert all(share > 0 for share in found.values())
    louder = {
        m: Factor(f.down, f.up, 1e3 if "ff" in m.name else 1e-3) for m, f in random_lora(0).items()
    }
    ((loudest, share),) = [item for item in energies(louder).items() if item[1] > 0.5]
    assert loudest == ("down_blocks.1", "feed-forward")
    assert share == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "block", "kind"),
    [
        (f"{ATTENTION}.attn1.to_out.0", "down_blocks.1", "self-attention"),
        (f"{ATTENTION}.attn2.to_k", "down_blocks.1", "cross-attention"),
        (f"{ATTENTION}.ff.net.2", "down_blocks.1", "feed-forward"),
        ("mid_block.attentions.0.proj_in", "mid_block", "projection"),
        ("up_blocks.2.resnets.0.conv_shortcut", "up_blocks.2", "convolution"),
        ("up_blocks.2.resnets.0.time_emb_proj", "up_blocks.2", "time"),
        ("down_blocks.0.downsamplers.0.conv", "down_blocks.0", "resampling"),
        ("conv_in", "conv_in", "convolution"),
        ("time_embedding.linear_1", "time_embedding.linear_1", "time"),
    ],
)
def test_every_module_has_a_group(name: str, block: str, kind: str) -> None:
    assert group(Module("unet", name)) == (block, kind)
    text = Module("text_encoder", "text_model.encoder.layers.3.mlp.fc1")
    assert group(text) == ("text_encoder.text_model.encoder", "feed-forward")
