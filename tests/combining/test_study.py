"""The laws of the study of adapter arithmetic: what chance gives, what parts are, what is zero."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from loras import random_lora
from making import CPU, shapes_base, shapes_inventory

from bench.arithmetic.apart import apart, ratio
from bench.arithmetic.closeness import (
    SPREADS,
    Measured,
    average,
    closeness,
    cosine_by_chance,
    overlap_by_chance,
)
from bench.arithmetic.interference import Noisy, interference, noisy
from bench.arithmetic.painted import Place, measure, outcomes, paint_all
from bench.arithmetic.variants import GROUPS, ablations, alone, lower_ranks, without
from lcm_lora.bases import Base
from lcm_lora.combining.arithmetic import Side, cosine, group, overlap
from lcm_lora.combining.compress import losses, overall
from lcm_lora.combining.delta import Lora, Module, delta
from lcm_lora.combining.write import write_lora
from lcm_lora.files import sha256
from lcm_lora.hashes import Hashes
from lcm_lora.painting.sets import Theme
from lcm_lora.painting.studio import SharedBase
from lcm_lora.painting.subject import Subject, Weighted
from lcm_lora.params.score import Score
from lcm_lora.seeing.image_sets import real_set, real_sets

ONE = Module("unet", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q")
LAYERS = {
    Module("unet", "down_blocks.0.resnets.0.time_emb_proj"): (96, 384),
    Module("unet", "mid_block.resnets.0.conv1"): (128, 128, 3, 3),
    Module("unet", "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_v"): (96, 128),
}
"""Of the shapes base, one of each depth and of different kinds."""


def quiet(seed: int) -> Lora:
    """Return a LoRA of rank 4 for the shapes base that changes what it paints, but not all."""
    return random_lora(seed, LAYERS, ranks=(4,), scales=(0.01,))


@pytest.mark.parametrize("side", ["rows", "columns"])
def test_chance_is_what_random_factors_come_to(side: Side) -> None:
    pairs = [
        (random_lora(2 * i, {ONE: (9, 14)}, (3,)), random_lora(2 * i + 1, {ONE: (9, 14)}, (3,)))
        for i in range(300)
    ]
    overlaps = [overlap(a[ONE], b[ONE], 3, side) for a, b in pairs]
    cosines = [cosine(a[ONE], b[ONE]) for a, b in pairs]
    expected = overlap_by_chance({"rows": 14, "columns": 9}[side], 3)
    assert np.mean(overlaps) == pytest.approx(expected.mean, abs=4 * expected.deviation / 300**0.5)
    assert np.std(overlaps) == pytest.approx(expected.deviation, rel=0.15)
    by_chance = cosine_by_chance(pairs[0][0][ONE])
    assert abs(np.mean(cosines)) < 4 * by_chance.deviation / 300**0.5
    assert np.std(cosines) == pytest.approx(by_chance.deviation, rel=0.15)


def test_unrelated_adapters_are_close_by_chance_alone_and_an_adapter_to_itself_is_not() -> None:
    modules = {Module("unet", f"{ONE.name}{i}"): (12, 16) for i in range(40)}
    a, b = random_lora(1, modules, (3,)), random_lora(2, modules, (4,))
    for name in ("cosine", "columns", "rows", "first_columns", "first_rows"):
        apart: list[Measured] = [getattr(each, name) for each in closeness(a, b)]
        own: list[Measured] = [getattr(each, name) for each in closeness(a, a)]
        assert 32 <= sum(each.is_by_chance for each in apart) <= 40
        together = average(apart)
        assert abs(together.value - together.chance.mean) < 2 * SPREADS * together.chance.deviation
        assert average(own).value == pytest.approx(1)
        assert not any(each.is_by_chance for each in own)


def test_parts_of_an_adapter_are_all_of_it() -> None:
    lora = quiet(0)
    found = ablations(lora)
    assert len(found) == 2 * 6  # three blocks, and three kinds of those that it has
    for name in GROUPS:
        if without(name) in found:
            inside, outside = found[alone(name)], found[without(name)]
            assert dict(sorted({**inside, **outside}.items())) == lora
            assert not inside.keys() & outside.keys()
            assert all(GROUPS[name](group(module)) for module in inside)


def test_lower_ranks_are_powers_of_two_and_come_nearer() -> None:
    lora = random_lora(3, LAYERS, ranks=(4, 6, 6))
    found = lower_ranks(lora)
    assert list(found) == [1, 2, 4]
    errors = [overall(losses(lora, lower)) for lower in found.values()]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] > 0


@pytest.fixture(scope="module")
def shared() -> SharedBase:
    return SharedBase(shapes_inventory(), CPU)


def written(lora: Lora, folder: Path, name: str) -> Weighted:
    write_lora(lora, folder / f"{name}.safetensors", "kohya", {})
    return Weighted(folder / f"{name}.safetensors", sha256(folder / f"{name}.safetensors"))


def test_interference_is_what_weights_added_by_hand_give(
    shared: SharedBase, data: Path, tmp_path: Path
) -> None:
    a, s = quiet(0), quiet(1)
    files = {"a": written(a, tmp_path, "a"), "s": written(s, tmp_path, "s")}
    real = real_set(data / "data" / "evaluation", "real").first(3)
    given = noisy(shared.loaded, real, None, seed=5)
    assert given.timesteps == (999, 759, 499, 259)
    given = replace(given, timesteps=given.timesteps[:1], latents=given.latents[:1])
    subject = Subject(shared.found, (files["a"],))
    meetings = interference(shared, subject, files["s"], given, 0.95, shares=(0.5, 1.0))
    assert [(m.acceleration, m.style) for m in meetings] == [(0.5, 0.5), (0.5, 1), (1, 0.5), (1, 1)]
    base = shapes_base()
    said = {(x, y): by_hand(base, given, (a, x), (s, y)) for x in (0, 1) for y in (0, 0.5)}
    left = said[1, 0.5] - said[1, 0] - said[0, 0.5] + said[0, 0]
    share = left.norm(dim=1) / (said[0, 0.5] - said[0, 0]).norm(dim=1)
    (met,) = [m for m in meetings if (m.acceleration, m.style) == (1, 0.5)]
    assert met.of_style == pytest.approx(share.mean().item(), rel=2e-3)
    assert met.of_style > 0.01
    swapped = interference(
        shared, Subject(shared.found, (files["s"],)), files["a"], given, 0.95, shares=(0.5, 1.0)
    )
    (same,) = [m for m in swapped if (m.acceleration, m.style) == (0.5, 1)]
    assert same.of_acceleration == pytest.approx(met.of_style, rel=2e-3)
    assert same.of_both == pytest.approx(met.of_both, rel=2e-3)


@torch.inference_mode()
def by_hand(base: Base, given: Noisy, *worn: tuple[Lora, float]) -> torch.Tensor:
    """Return what a base says with adapters in its own weights, float64 [B, C * h * w]."""
    kept = {name: value.clone() for name, value in base.unet.state_dict().items()}
    for lora, weight in worn:
        for module, factor in lora.items():
            base.unet.get_submodule(module.name).weight += weight * delta(factor).float()
    timesteps = torch.full((given.latents.shape[1],), given.timesteps[0])
    said = base.denoiser(base.unet)(given.latents[0], timesteps, given.conditioning)
    base.unet.load_state_dict(kept)
    return said.flatten(1).double()


def test_the_whole_differs_from_itself_by_nothing_and_others_by_their_pictures(
    data: Path, tmp_path: Path, hashes: Hashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data)
    real, _ = real_sets(Path("data/evaluation"))
    place = Place(
        subject=Subject(shapes_inventory()),
        theme=Theme(real.captions, 32, seed=1, batch=4),
        hardware=CPU,
        score=Score.model_validate({"networks": {"shapes": {"kind": "shapes"}}}),
        folder=tmp_path / "study",
        hashes=hashes,
    )
    paint_all(place, {"whole": quiet(0), "nothing": {}})
    names = ("whole", "nothing")
    found = outcomes("parts", "whole", names, measure(place, names), place.score)
    found += apart("parts", "whole", "nothing", names, place)
    whole, nothing = ({o.metric: o for o in found if o.variant == name} for name in names)
    assert list(whole) == ["attributes", "kid_shapes:teacher", "apart"]
    for metric, own in whole.items():
        assert (own.difference, own.difference_low, own.difference_high) == (0, 0, 0)
        other = nothing[metric]
        assert other.difference == pytest.approx(other.value - own.value)
        assert other.difference_low <= other.difference <= other.difference_high
    assert (whole["apart"].value, nothing["apart"].value) == (0, 1)


def test_the_error_of_a_ratio_is_what_repeated_draws_show() -> None:
    rng = np.random.default_rng(0)
    beside = 3 + rng.random((400, 50))
    values = 0.4 * beside + 0.2 * rng.normal(size=(400, 50))
    found = [ratio(v, b) for v, b in zip(values, beside, strict=True)]
    shares, errors = np.array(found).T
    assert shares.mean() == pytest.approx(0.4, abs=4 * shares.std() / 20)
    assert errors.mean() == pytest.approx(shares.std(), rel=0.15)
