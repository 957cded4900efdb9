"""The adapter: its published shape, its switch, and files that others read."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from making import shapes_base
from safetensors import safe_open
from torch import Tensor

from lcm_lora.adapter import TARGETS, adapter_off, attach, write_adapter
from lcm_lora.bases import Base
from lcm_lora.files import sha256
from lcm_lora.recipe import KOHYA, WEIGHTS

SD15 = {
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
SDXL = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


@pytest.mark.parametrize(("config", "count"), [(SD15, 67_252_224), (SDXL, 196_751_360)])
def test_the_adapter_has_the_published_size(config: dict[str, object], count: int) -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, **config).requires_grad_(False)
        parameters = attach(unet, 64, 64, 0)
    assert sum(p.numel() for p in parameters) == count
    adapted = {name for name, _ in unet.named_modules() if name.endswith(".lora_A.default")}
    endings = {t for t in TARGETS if any(n.endswith(f"{t}.lora_A.default") for n in adapted)}
    assert endings == set(TARGETS)


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


@pytest.mark.parametrize("file", [WEIGHTS, KOHYA])
def test_diffusers_reads_it_back_at_the_right_scale(
    file: str, adapted: Base, tmp_path: Path
) -> None:
    """Alpha is three times the rank here: a lost alpha shows."""
    write_adapter(adapted.unet, tmp_path, torch.float32)
    fresh = shapes_base()
    fresh.pipeline.load_lora_weights(str(tmp_path), weight_name=file)
    torch.testing.assert_close(predict(fresh.unet), predict(adapted.unet), rtol=1e-4, atol=1e-5)


def test_the_kohya_file_has_the_names_that_other_tools_expect(
    adapted: Base, tmp_path: Path
) -> None:
    write_adapter(adapted.unet, tmp_path, torch.float16)
    with safe_open(tmp_path / KOHYA, "pt") as file:
        names = set(file.keys())
        name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
        assert {f"{name}.lora_down.weight", f"{name}.lora_up.weight", f"{name}.alpha"} <= names
        assert float(file.get_tensor(f"{name}.alpha")) == 12
        assert all(n.startswith("lora_unet_") for n in names)
        assert file.get_tensor(f"{name}.lora_up.weight").dtype == torch.float16


def test_writing_twice_gives_the_same_bytes(adapted: Base, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        write_adapter(adapted.unet, tmp_path / name, torch.float32)
    assert sha256(tmp_path / "a") == sha256(tmp_path / "b")
