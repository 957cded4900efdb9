"""Pictures: the same noise everywhere, no trace of the batch, the same pictures elsewhere."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, LCMScheduler
from making import make_adapter
from numpy.typing import NDArray
from plain_diffusers import paint_plainly

from lcm_lora.bases import Base
from lcm_lora.errors import UserError
from lcm_lora.painting.dressed import fuse, wearing
from lcm_lora.painting.paint import paint
from lcm_lora.painting.schedulers import scheduler_of
from lcm_lora.painting.subject import Subject, with_adapter
from lcm_lora.params.generate import SAMPLERS, Cell, Sampler
from lcm_lora.shapes import places

CAPTIONS = [f"a small {c} ring on a navy background" for c in ("red", "blue", "green", "pink")]


@pytest.fixture(scope="session")
def adapter(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("adapter")
    return make_adapter(home, cache, steps=4, rank=4, alpha=8, learning_rate=2e-3)


def pictures(
    base: Base, sampler: Sampler, cell: Cell, batch: int = 4, eta: float = 0.0
) -> NDArray[np.uint8]:
    config = dict(base.pipeline.scheduler.config)
    found = []
    for first in range(0, len(CAPTIONS), batch):
        base.pipeline.scheduler = scheduler_of(sampler, config)
        part = CAPTIONS[first : first + batch]
        found.append(paint(base, part, cell, 32, 11, first, eta))
    return np.concatenate(found)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_picture_does_not_depend_on_its_batch(sampler: Sampler, base: Base) -> None:
    cell, eta = Cell(steps=3, guidance=3.0), 0.5 if sampler in {"ddim", "tcd"} else 0.0
    together, alone = (pictures(base, sampler, cell, b, eta).astype(int) for b in (4, 1))
    assert np.abs(together - alone).max() <= 1  # other kernels for other batches: the last bit


def test_one_step_of_every_classical_solver_is_the_same_estimate(base: Base) -> None:
    """From pure noise each one's first step is DDIM's; so all start from equal noise at t = 999."""
    cell = Cell(steps=1, guidance=3.0)
    ddim, *others = (
        pictures(base, name, cell).astype(int) for name in ("ddim", "dpmpp", "unipc", "euler")
    )
    for other in others:
        assert np.abs(ddim - other).mean() < 4


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_every_sampler_starts_at_the_noisiest_level(
    sampler: Sampler, steps: int, base: Base
) -> None:
    scheduler = scheduler_of(sampler, dict(base.pipeline.scheduler.config))
    scheduler.set_timesteps(steps)
    assert int(scheduler.timesteps[0]) == 999
    assert len(scheduler.timesteps) == steps


def test_an_adapters_recipe_tells_its_grid_and_the_base_all_else() -> None:
    told = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    told |= {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02}
    base = DDIMScheduler(**told)
    recipe = dict(LCMScheduler(original_inference_steps=25, timestep_scaling=9.0).config)
    found = scheduler_of("lcm", dict(base.config), recipe)
    assert {name: found.config[name] for name in told} == told
    assert torch.equal(found.alphas_cumprod, base.alphas_cumprod)
    assert found.config.original_inference_steps == 25
    assert found.config.timestep_scaling == 9.0


def test_fresh_noise_in_each_step_changes_the_picture_only_where_asked(base: Base) -> None:
    cell = Cell(steps=4, guidance=3.0)
    plain, again, noisy = (pictures(base, "ddim", cell, eta=eta) for eta in (0.0, 0.0, 1.0))
    assert np.array_equal(plain, again)
    assert not np.array_equal(plain, noisy)


def test_fused_is_worn_and_half_of_it_lies_between(base: Base, adapter: Path) -> None:
    """Weights in weight space: fused equals stacked, none equals the base, twice half is whole."""
    from making import shapes_base

    cell, whole = Cell(steps=2, guidance=1.0), with_adapter(base.found, adapter)
    (worn,) = whole.adapters
    bare = pictures(base, "lcm", cell)
    with wearing(base, whole):
        stacked = pictures(base, "lcm", cell)
    assert np.array_equal(pictures(base, "lcm", cell), bare), "the base is left as it was"
    other, halves = shapes_base(), dataclasses.replace(worn, weight=0.5)
    fuse(other, Subject(base.found, (halves, halves)))
    fused = pictures(other, "lcm", cell)
    assert np.abs(fused.astype(int) - stacked).max() <= 1
    assert np.abs(bare.astype(int) - stacked).max() > 1


def test_damaged_weights_are_refused(adapter: Path, base: Base, tmp_path: Path) -> None:
    shutil.copytree(adapter, tmp_path / "adapter")
    weights = tmp_path / "adapter" / "pytorch_lora_weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match=r"safetensors: damaged, .*; run `lcm-lora select`"):
        with_adapter(base.found, tmp_path / "adapter")


def test_an_adapter_of_another_base_is_refused(adapter: Path, base: Base) -> None:
    found = base.found.model_copy(update={"model": "team/other", "sha256": "f" * 64})
    with pytest.raises(UserError, match=r"distilled from shapes .* base is team/other \(f{12}\);"):
        with_adapter(found, adapter)


def test_plain_diffusers_paints_the_same_pictures(
    base: Base, adapter: Path, tmp_path: Path
) -> None:
    """In a process of its own that never imports this project, with nothing but the two folders."""
    theirs = paint_plainly(places.BASE, adapter, CAPTIONS, tmp_path)
    with wearing(base, with_adapter(base.found, adapter)):
        ours = pictures(base, "lcm", Cell(steps=4, guidance=1.0), 1)
    assert np.array_equal(ours, theirs)
