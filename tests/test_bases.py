"""Bases: what is accepted, what is refused and how it says so."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from lcm_lora.bases import SHAPES, Base, load_base
from lcm_lora.errors import UserError
from lcm_lora.params import Base as BaseParams
from lcm_lora.params import Hardware
from lcm_lora.shapes import architecture

CPU = Hardware(device="cpu", precision="fp32", threads=1)


def test_the_shapes_base_is_frozen_and_in_fp32(base: Base) -> None:
    parts = [base.unet, base.vae, base.pipeline.text_encoder]
    for part in parts:
        assert not any(p.requires_grad for p in part.parameters())
        assert {p.dtype for p in part.parameters()} == {torch.float32}
    assert (base.kind, base.downsampling) == ("sd", 4)


def test_the_empty_branch_of_stable_diffusion_is_the_empty_caption(base: Base) -> None:
    assert torch.equal(base.embed_empty()["prompt_embeds"], base.embed([""])["prompt_embeds"])
    told = base.embed(["a small red ring on a navy background"])
    assert told["prompt_embeds"].shape == (1, 24, 128)


def test_a_folder_and_its_name_load_the_same_base(base: Base) -> None:
    other = load_base(BaseParams(model=str(SHAPES)), CPU)
    assert other.fingerprint() == base.fingerprint()


def test_the_fingerprint_tells_bases_apart(base: Base) -> None:
    before = base.fingerprint()
    next(base.unet.parameters()).data[0] += 1
    assert base.fingerprint() != before


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("model.ckpt", "pickled weights are refused; convert to safetensors"),
        ("missing.safetensors", "no such file"),
        ("nobody/nothing-at-all", "cannot be loaded"),
    ],
)
def test_what_cannot_be_loaded_is_refused_in_one_line(
    model: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=message) as error:
        load_base(BaseParams(model=model), CPU)
    assert "\n" not in str(error.value)


def test_cuda_without_a_gpu_is_refused() -> None:
    if torch.cuda.is_available():
        assert load_base(BaseParams(), Hardware(device="cuda")).device.type == "cuda"
    else:
        with pytest.raises(UserError, match="torch sees no GPU"):
            load_base(BaseParams(), Hardware(device="cuda"))


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


def test_the_empty_branch_of_sdxl_is_zero(xl_folder: Path) -> None:
    xl = load_base(BaseParams(model=str(xl_folder)), CPU)
    assert xl.kind == "sdxl"
    told = xl.embed(["a red ring"])
    assert (told["prompt_embeds"].shape, told["pooled"].shape) == ((1, 24, 64), (1, 32))
    assert all(not value.any() for value in xl.embed_empty().values())


def test_sdxl_goes_through_every_stage(xl_folder: Path, shards: Path, tmp_path: Path) -> None:
    from lcm_lora.data.encode import encode
    from lcm_lora.params import Cell, Distill, Encode, Guidance
    from lcm_lora.sampling import load_adapter, paint, scheduler_of
    from lcm_lora.training.recipe import distill

    params = BaseParams(model=str(xl_folder))
    encode(Encode(batch=32), load_base(params, CPU), shards, tmp_path / "cache")
    guidance = Guidance(convention="imagen", low=3, high=3)
    distill(
        Distill(steps=2, batch=4, guidance=guidance, rank=4, alpha=4, checkpoint_every=2),
        CPU,
        load_base(params, CPU),
        tmp_path / "cache",
        tmp_path / "state",
        tmp_path / "adapter",
        tmp_path / "curve",
        "0" * 40,
    )
    xl = load_base(params, CPU)
    load_adapter(xl, tmp_path / "adapter")
    xl.pipeline.scheduler = scheduler_of("lcm", xl, tmp_path / "adapter")
    cell = Cell(steps=2, guidance=1.0)
    pictures = list(paint(xl, ["a ring", "a square"], cell, 32, 0, 2, lambda *_: None))
    assert [picture.shape for picture in pictures] == [(32, 32, 3)] * 2
