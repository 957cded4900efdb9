"""Bases: what is accepted, what is refused and how it says so."""

import shutil
from pathlib import Path

import pytest
import torch
from making import CPU, shapes_inventory

from lcm_lora.bases import Base, load_base
from lcm_lora.errors import UserError
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base import look_at_base
from lcm_lora.params.base import Base as BaseParams
from lcm_lora.params.hardware import Hardware
from lcm_lora.shapes import places

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
    content[-1] ^= 0 if file.endswith(".json") else 1
    (folder / file).write_bytes(content + b"\n" * file.endswith(".json"))
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
    with pytest.raises(UserError, match=r"another base|whole Stable Diffusion") as error:
        load_base(look_at_base(BaseParams(model=str(folder)), hashes), CPU)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_that_are_cut_short_or_gone_are_seen_at_once(
    part: str, hashes: Hashes, tmp_path: Path
) -> None:
    folder = shutil.copytree(places.BASE, tmp_path / "base")
    (weights,) = (folder / part).glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"has \d+ bytes where its header says \d+; fetch it again"):
        look_at_base(BaseParams(model=str(folder)), hashes)
    weights.unlink()
    with pytest.raises(UserError, match=f"{part}: holds no weights"):
        look_at_base(BaseParams(model=str(folder)), hashes)
    weights.with_suffix(".bin").write_bytes(b"a pickle")
    with pytest.raises(UserError, match=f"{part}: its weights are pickled, which is refused"):
        look_at_base(BaseParams(model=str(folder)), hashes)


def test_cuda_without_a_gpu_is_refused() -> None:
    if torch.cuda.is_available():
        assert load_base(shapes_inventory(), Hardware(device="cuda")).device.type == "cuda"
    else:
        with pytest.raises(UserError, match="torch sees no GPU"):
            load_base(shapes_inventory(), Hardware(device="cuda"))
