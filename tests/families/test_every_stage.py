"""Every family from a base on disk to pictures with its adapter, offline; diffusers agrees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import LCMScheduler
from making import CPU, make_adapter, make_cache, make_data
from single_files import save_single_file
from tiny_bases import save_configs, tiny_pipeline

from lcm_lora.autoencoder import load_autoencoder
from lcm_lora.bases import load_base
from lcm_lora.errors import UserError
from lcm_lora.families.family import FAMILIES, FamilyName
from lcm_lora.families.found import BaseInventory
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base import look_at_base
from lcm_lora.painting.dressed import wearing
from lcm_lora.painting.paint import paint
from lcm_lora.painting.schedulers import scheduler_of
from lcm_lora.painting.subject import with_adapter
from lcm_lora.params.base import Base as BaseParams
from lcm_lora.params.generate import Cell
from lcm_lora.params.hardware import Hardware
from lcm_lora.params.sources import ShapesSource
from lcm_lora.recipe import read_recipe

CAPTIONS = ["a small red ring on a navy background", "a ring"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = ShapesSource(count=60, seed=5)
    return make_data(
        tmp_path_factory.mktemp("project"), source, held_out=0.33, resolution=16, min_side=16
    )


def found_as(form: str, pipeline: Any, folder: Path, hashes: Hashes) -> BaseInventory:
    """Write a pipeline in one form and look at it."""
    if form == "folder":
        pipeline.save_pretrained(folder / "base")
        return look_at_base(BaseParams(model=str(folder / "base")), hashes)
    file = save_single_file(pipeline, folder / "base.safetensors")
    config = save_configs(pipeline, folder / "config")
    return look_at_base(BaseParams(model=str(file), config=str(config)), hashes)


def distilled(project: Path, found: BaseInventory, home: Path, hardware: Hardware = CPU) -> Path:
    """Encode and distil; return the adapter."""
    cache = make_cache(project, lambda n: load_autoencoder(found, CPU, n), found.part_sha256("vae"))
    base = load_base(found, hardware)
    return make_adapter(home, cache, base, hardware, steps=2, batch=4, rank=2, alpha=7)


def painted(base: Any, adapter: Path) -> list[np.ndarray[Any, Any]]:
    subject = with_adapter(base.found, adapter)
    config = dict(base.pipeline.scheduler.config)
    base.pipeline.scheduler = scheduler_of("lcm", config, subject.lcm_config)
    with wearing(base, subject):
        return list(paint(base, CAPTIONS, Cell(steps=2, guidance=1.0), 16, 0))


def share_weights(ours: Any, theirs: Any) -> None:
    """Have two pipelines of the same weights use those of one place.

    The last bit of a sum depends on where in memory its terms lie: those that come from a file lie
    where the file has them.
    """
    for part in theirs.components:
        if isinstance(network := getattr(theirs, part), torch.nn.Module):
            loaded = getattr(ours, part).state_dict()
            assert loaded.keys() == network.state_dict().keys()
            for name, weight in network.named_parameters():
                assert torch.equal(weight, loaded[name]), f"{part} {name}"
                weight.data = loaded[name]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("form", "prediction_type"), [("folder", "epsilon"), ("file", "v_prediction")]
)
def test_a_base_of_every_family_becomes_an_adapter_that_diffusers_reads(
    family: FamilyName,
    form: str,
    prediction_type: str,
    data: Path,
    hashes: Hashes,
    tmp_path: Path,
) -> None:
    pipeline = tiny_pipeline(family, prediction_type)
    found = found_as(form, pipeline, tmp_path, hashes)
    adapter = distilled(data, found, tmp_path)
    recipe = read_recipe(adapter)
    assert (recipe.base.family, recipe.prediction_type) == (family, prediction_type)
    assert recipe.base.config == found.config
    base = load_base(found, CPU)
    share_weights(base.pipeline, pipeline)
    pictures = painted(base, adapter)
    assert [picture.shape for picture in pictures] == [(16, 16, 3)] * 2

    # Plain diffusers on the pipeline that was saved: the same pictures from the same noise.
    assert type(pipeline) is getattr(diffusers, FAMILIES[family].pipeline)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = LCMScheduler.from_config(recipe.scheduler.config)
    noise, again = [], []
    for index in range(2):
        state = np.random.SeedSequence((0, 0, index)).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
        noise.append(torch.randn(4, 8, 8, generator=generator))
        again.append(generator)
    before = _call(pipeline, torch.stack(noise), [g.clone_state() for g in again])
    pipeline.load_lora_weights(str(adapter))
    after = _call(pipeline, torch.stack(noise), again)
    assert np.array_equal(np.stack(pictures), after)
    assert not np.array_equal(before, after), "the adapter changes something"


def _call(pipeline: Any, noise: torch.Tensor, generators: list[torch.Generator]) -> Any:
    images = pipeline(
        CAPTIONS,
        height=16,
        width=16,
        latents=noise,
        generator=generators,
        num_inference_steps=2,
        guidance_scale=1.0,
        output_type="np",
    ).images
    return (images * 255).round().astype(np.uint8)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_and_paints_on_the_cpu(
    precision: str, data: Path, hashes: Hashes, tmp_path: Path
) -> None:
    hardware = CPU.model_copy(update={"precision": precision})
    found = found_as("folder", tiny_pipeline("sdxl"), tmp_path, hashes)
    adapter = distilled(data, found, tmp_path, hardware)
    exact, low = (painted(load_base(found, h), adapter) for h in (CPU, hardware))
    difference = np.stack(exact).astype(float) - np.stack(low).astype(float)
    assert 0 < np.abs(difference).mean() < 8


def test_a_cache_of_another_autoencoder_is_refused(
    data: Path, hashes: Hashes, tmp_path: Path
) -> None:
    found = found_as("folder", tiny_pipeline("sd1"), tmp_path, hashes)
    cache = make_cache(data, lambda n: load_autoencoder(found, CPU), found.part_sha256("vae"))
    with pytest.raises(UserError, match="holds latents of another autoencoder than that of shapes"):
        make_adapter(tmp_path / "home", cache, steps=1)
