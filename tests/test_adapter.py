"""The adapter: its published names and shapes, its switch, and files that others read."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from making import shapes_base
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file
from tiny_bases import tiny_pipeline
from torch import Tensor

from lcm_lora.adapter import adapter_off, attach, published, write_adapter
from lcm_lora.adapter_files import KOHYA, WEIGHTS
from lcm_lora.bases import Base
from lcm_lora.families.family import FAMILIES, FamilyName
from lcm_lora.files import sha256

HEADER = {"ss_v2": "False", "modelspec.title": "tiny"}
TABLES = Path(__file__).parent / "tables"
PUBLISHED: dict[FamilyName, tuple[int, int]] = {
    "sd1": (278, 67_252_224),
    "ssd1b": (423, 104_902_656),
    "sdxl": (788, 196_751_360),
}
"""Modules and, at rank 64, parameters of the published LCM-LoRAs."""


def table(family: FamilyName) -> dict[str, list[str]]:
    """Return the modules of a published adapter: input and output width, and any kernel."""
    lines = (TABLES / f"{family}.txt").read_text().splitlines()
    return {name: shape for name, *shape in map(str.split, lines)}


def shapes_of(family: FamilyName, rank: int) -> dict[str, list[int]]:
    """Return every tensor of a published adapter at a rank, and its shape."""
    shapes: dict[str, list[int]] = {}
    for name, (wide, out, *kernel) in table(family).items():
        sides = [int(side) for side in kernel[0].split("x")] if kernel else []
        shapes[f"lora_unet_{name}.lora_down.weight"] = [rank, int(wide), *sides]
        shapes[f"lora_unet_{name}.lora_up.weight"] = [int(out), rank, *[1 for _ in sides]]
        shapes[f"lora_unet_{name}.alpha"] = []
    return shapes


@pytest.mark.parametrize("family", PUBLISHED)
def test_the_tables_are_of_the_published_size(family: FamilyName) -> None:
    modules, parameters = PUBLISHED[family]
    assert len(table(family)) == modules
    assert sum(math.prod(s) for s in shapes_of(family, 64).values() if s) == parameters


@pytest.mark.parametrize("family", PUBLISHED)
def test_names_and_shapes_are_the_published_ones(family: FamilyName) -> None:
    config = json.loads((FAMILIES[family].configs / "unet" / "config.json").read_text())
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config).requires_grad_(False)
        attach(unet, 1, 1, 0)
    written = published(unet, torch.float16)
    assert {name: list(tensor.shape) for name, tensor in written.items()} == shapes_of(family, 1)


def predict(unet: UNet2DConditionModel) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    z = torch.randn(2, 8, 8, 8, generator=rng)
    told = torch.randn(2, 24, 128, generator=rng)
    with torch.no_grad():
        output: Tensor = unet(z, torch.tensor([999, 19]), told).sample
    return output


@pytest.fixture
def adapted(base: Base) -> Base:
    """A base with an adapter whose weights are all random."""
    rng = torch.Generator().manual_seed(1)
    for parameter in attach(base.unet, 4, 12, 0):
        parameter.data = 0.05 * torch.randn(parameter.shape, generator=rng)
    return base


def test_a_fresh_adapter_changes_nothing_and_is_a_function_of_its_seed(base: Base) -> None:
    before = predict(base.unet)
    first = [p.clone() for p in attach(base.unet, 4, 4, 7)]
    torch.testing.assert_close(predict(base.unet), before, rtol=0, atol=0)
    again = attach(shapes_base().unet, 4, 4, 7)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(p.dtype == torch.float32 for p in again)


def test_switched_off_it_is_the_base_bit_for_bit(adapted: Base) -> None:
    alone = predict(shapes_base().unet)
    on = predict(adapted.unet)
    trainable = [p.requires_grad for p in adapted.unet.parameters()]
    with adapter_off(adapted.unet):
        assert torch.equal(predict(adapted.unet), alone)
        assert [p.requires_grad for p in adapted.unet.parameters()] == trainable
    assert torch.equal(predict(adapted.unet), on)
    assert not torch.equal(on, alone)


def test_an_exception_switches_it_on_again(adapted: Base) -> None:
    on = predict(adapted.unet)
    with pytest.raises(KeyError), adapter_off(adapted.unet):
        raise KeyError
    assert torch.equal(predict(adapted.unet), on)


def deltas(unet: Any) -> dict[str, Tensor]:
    """Return what the adapter of a UNet adds to the weights of each module."""
    return {
        name: module.get_delta_weight(module.active_adapters[0]).detach()
        for name, module in unet.named_modules()
        if isinstance(module, BaseTunerLayer)
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_diffusers_reads_back_the_same_adapter(family: FamilyName, tmp_path: Path) -> None:
    """Alpha is three and a half times the rank here: a lost alpha shows, and a lost module."""
    pipeline = tiny_pipeline(family)
    for parameter in attach(pipeline.unet.requires_grad_(False), 2, 7, 0):
        torch.nn.init.normal_(parameter, std=0.1)
    write_adapter(pipeline.unet, tmp_path, torch.float32, HEADER)
    fresh = tiny_pipeline(family)
    fresh.load_lora_weights(str(tmp_path))
    ours, theirs = deltas(pipeline.unet), deltas(fresh.unet)
    assert ours.keys() == theirs.keys()
    assert all(value.any() and torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_both_files_are_the_same_and_in_the_dtype_asked_for(
    dtype: torch.dtype, adapted: Base, tmp_path: Path
) -> None:
    write_adapter(adapted.unet, tmp_path, dtype, HEADER)
    assert (tmp_path / WEIGHTS).read_bytes() == (tmp_path / KOHYA).read_bytes()
    tensors = load_file(tmp_path / WEIGHTS)
    assert all(t.dtype == dtype for t in tensors.values())
    assert all(t.item() == 12 for name, t in tensors.items() if name.endswith(".alpha"))


@pytest.mark.parametrize(("alpha", "dtype"), [(257, torch.bfloat16), (65536, torch.float16)])
def test_an_alpha_that_the_dtype_lacks_is_kept(alpha: int, dtype: torch.dtype, base: Base) -> None:
    attach(base.unet, 1, alpha, 0)
    assert {
        t.item() for name, t in published(base.unet, dtype).items() if name.endswith(".alpha")
    } == {alpha}


def test_writing_twice_gives_the_same_bytes(adapted: Base, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        write_adapter(adapted.unet, tmp_path / name, torch.float32, HEADER)
    write_adapter(adapted.unet, tmp_path / "a", torch.float32, HEADER)
    assert sha256(tmp_path / "a") == sha256(tmp_path / "b")
