"""Bases: what is accepted, what is refused and how it says so."""

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from making import CPU, make_adapter, make_cache, make_data, shapes_inventory
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from lcm_lora.bases import Base, load_base
from lcm_lora.errors import UserError
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base import look_at_base
from lcm_lora.params.base import Base as BaseParams
from lcm_lora.params.generate import Cell
from lcm_lora.params.hardware import Hardware
from lcm_lora.params.sources import ShapesSource
from lcm_lora.sampling import load_adapter, paint, scheduler_of
from lcm_lora.shapes import architecture, places

SIZES = torch.tensor([[40.0, 50, 1, 2, 32, 32]])


def test_the_shapes_base_is_frozen_and_in_fp32(base: Base) -> None:
    parts = [base.unet, base.vae, base.pipeline.text_encoder]
    for part in parts:
        assert not any(p.requires_grad for p in part.parameters())
        assert {p.dtype for p in part.parameters()} == {torch.float32}
    assert (base.family.name, base.downsampling) == ("sd1", 4)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_only_the_denoiser_computes_in_half_precision(precision: str, base: Base) -> None:
    """The autoencoder's weights never pass through half precision; latents and sizes stay fp32."""
    low = load_base(shapes_inventory(), CPU.model_copy(update={"precision": precision}))
    assert {p.dtype for p in low.unet.parameters()} == {low.dtype} != {torch.float32}
    for part in ("vae", "text_encoder"):
        exact = getattr(base.pipeline, part).state_dict()
        for name, value in getattr(low.pipeline, part).state_dict().items():
            assert torch.equal(value, exact[name])
    z = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    times, told = torch.tensor([999, 19]), low.conditioning(["a red ring", ""], SIZES)
    outputs = [b.denoiser(b.unet)(z, times, told) for b in (base, low)]
    assert all(output.dtype == torch.float32 for output in outputs)
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0.1, atol=0.1)
    assert not torch.equal(*outputs)


def test_the_empty_branch_of_stable_diffusion_is_the_empty_caption(base: Base) -> None:
    told = base.conditioning([""], SIZES)
    assert torch.equal(base.unconditional()["prompt_embeds"], told["prompt_embeds"])
    told = base.conditioning(["a small red ring on a navy background"], SIZES)
    assert told["prompt_embeds"].shape == (1, 24, 128)


def test_a_folder_and_its_name_are_the_same_base(base: Base, hashes: Hashes) -> None:
    other = load_base(look_at_base(BaseParams(model=str(places.BASE)), hashes), CPU)
    assert other.found.sha256 == base.found.sha256
    assert (base.name, other.name) == ("shapes", str(places.BASE))
    mine, its = base.unet.state_dict(), other.unet.state_dict()
    assert mine.keys() == its.keys()
    assert all(torch.equal(value, its[name]) for name, value in mine.items())


@pytest.mark.parametrize(
    "file", ["unet/diffusion_pytorch_model.safetensors", "vae/config.json", "tokenizer/merges.txt"]
)
def test_a_changed_byte_makes_another_base(
    file: str, base: Base, hashes: Hashes, tmp_path: Path
) -> None:
    folder = shutil.copytree(places.BASE, tmp_path / "base")
    params = BaseParams(model=str(folder))
    (folder / "README.md").write_text("A card changes nothing.")
    assert look_at_base(params, hashes).sha256 == base.found.sha256
    content = bytearray((folder / file).read_bytes())
    content[-1] ^= 1
    (folder / file).write_bytes(content)
    assert look_at_base(params, hashes).sha256 != base.found.sha256


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("model.ckpt", "pickled weights are refused; convert to safetensors"),
        ("missing.safetensors", "no such file"),
        ("nobody/nothing-at-all", "not in the local hub cache, and the hub does not answer"),
    ],
)
def test_what_cannot_be_loaded_is_refused_in_one_line(
    model: str, message: str, hashes: Hashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=message) as error:
        look_at_base(BaseParams(model=model), hashes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "file",
    [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/tokenizer.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    ],
)
@pytest.mark.parametrize("content", [b"", b"[]", b"[" * 100_000, b"\xff\x00 torn"])
def test_a_damaged_base_ends_in_one_line(
    file: str, content: bytes, hashes: Hashes, tmp_path: Path
) -> None:
    folder = shutil.copytree(places.BASE, tmp_path / "base")
    (folder / file).write_bytes(content)
    found = look_at_base(BaseParams(model=str(folder)), hashes)
    with pytest.raises(UserError, match=r"base\.model .*: cannot be loaded \(.*") as error:
        load_base(found, CPU)
    assert "\n" not in str(error.value)
    assert "mend its files, or name another base" in str(error.value)


def test_cuda_without_a_gpu_is_refused() -> None:
    if torch.cuda.is_available():
        assert load_base(shapes_inventory(), Hardware(device="cuda")).device.type == "cuda"
    else:
        with pytest.raises(UserError, match="torch sees no GPU"):
            load_base(shapes_inventory(), Hardware(device="cuda"))


@pytest.fixture(scope="session")
def xl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny untrained SDXL: two text encoders, pooled embeddings, sizes."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("xl")
    words = architecture.tokenizer(["a red ring on a navy background"])
    text = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=32,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=8,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=64,
        norm_num_groups=8,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 32,
    )
    StableDiffusionXLPipeline(
        vae=architecture.autoencoder(),
        text_encoder=CLIPTextModel(text),
        text_encoder_2=CLIPTextModelWithProjection(text),
        tokenizer=words,
        tokenizer_2=words,
        unet=unet,
        scheduler=architecture.scheduler(),
    ).save_pretrained(folder)
    return folder


def test_the_empty_branch_of_sdxl_is_zero(xl_folder: Path, hashes: Hashes) -> None:
    xl = load_base(look_at_base(BaseParams(model=str(xl_folder)), hashes), CPU)
    assert xl.family.name == "sdxl"
    told = xl.conditioning(["a red ring"], SIZES)
    assert (told["prompt_embeds"].shape, told["pooled"].shape) == ((1, 24, 64), (1, 32))
    assert all(not value.any() for value in xl.unconditional().values())


def test_sdxl_goes_through_every_stage(xl_folder: Path, hashes: Hashes, tmp_path: Path) -> None:
    found = look_at_base(BaseParams(model=str(xl_folder)), hashes)
    project = make_data(tmp_path / "project", ShapesSource(count=90, seed=5), held_out=0.33)
    cache = make_cache(
        project, lambda number: load_base(found, CPU, number), found.part_sha256("vae")
    )
    xl = load_base(found, CPU)
    adapter = make_adapter(
        tmp_path, cache, xl, steps=2, batch=4, rank=4, alpha=4, checkpoint_every=2
    )
    xl = load_base(found, CPU)
    load_adapter(xl, adapter)
    xl.pipeline.scheduler = scheduler_of("lcm", xl, adapter)
    cell = Cell(steps=2, guidance=1.0)
    pictures = list(paint(xl, ["a ring", "a square"], cell, 32, 0, 2, lambda *_: None))
    assert [picture.shape for picture in pictures] == [(32, 32, 3)] * 2
