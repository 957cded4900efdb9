"""Every format is read as who invented it reads it, and written as its readers look for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from loras import SHAPES, Shapes, assert_equal, assert_same, deltas, random_lora, shapes_in, worn
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from single_files import unet as originally_named
from tiny_bases import tiny_pipeline
from torch import Tensor

from lcm_lora.adapter import attach, published, write_adapter
from lcm_lora.adapter_files import WEIGHTS
from lcm_lora.combining.delta import COMPONENTS, Lora, Module, delta
from lcm_lora.combining.read import read_lora
from lcm_lora.combining.write import FORMATS, Format, suited, write_lora
from lcm_lora.files import sha256

DTYPES = [torch.float16, torch.bfloat16, torch.float32]


def written(lora: Lora, folder: Path, format: Format) -> Path:
    path = folder / (format if format == "peft" else f"{format}.safetensors")
    write_lora(lora, path, format, {"ss_v2": "False"})
    return path


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("first", FORMATS)
@pytest.mark.parametrize("second", FORMATS)
def test_a_round_trip_keeps_every_digit(
    first: Format, second: Format, dtype: torch.dtype, tmp_path: Path
) -> None:
    """There and back through any two formats, with alphas and ranks that each can hold."""
    lora = random_lora(1, ranks=(3,), scales=(1.0,), dtype=dtype)
    there = read_lora(written(lora, tmp_path / "a", first))
    back = read_lora(written(there, tmp_path / "b", second))
    assert_equal(there, lora)
    assert_equal(back, lora)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("format", FORMATS)
def test_uneven_ranks_and_alphas_come_back_as_the_file_has_them(
    format: Format, dtype: torch.dtype, tmp_path: Path
) -> None:
    """Every number is the one that `suited` foretold; and what it changed is rounding."""
    shapes = {**SHAPES, Module("text_encoder_2", "text_projection"): (6, 5)}
    layer = Module("text_encoder_2", "text_model.encoder.layers.0.mlp.fc1")
    lora = random_lora(10, {**shapes, layer: (7, 6)}, (2, 5, 3), (7 / 3, 0.3, 0.3, 1.9), dtype)
    there, foretold = read_lora(written(lora, tmp_path / "a", format)), suited(lora, format)
    back = read_lora(written(there, tmp_path / "b", format))
    for found in (there, back):
        assert found.keys() == lora.keys()
        for module, value in deltas(foretold).items():
            assert torch.equal(delta(found[module]), value)
        assert_same(deltas(found), deltas(lora), 2e-7)
    for component in COMPONENTS:
        own = [factor for module, factor in foretold.items() if module.component == component]
        assert len({factor.alpha for factor in own}) == 1 or format == "peft"
        assert len({factor.rank for factor in own}) == 1 or format != "diffusers"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rank", "alpha"), [(3, 7), (49, 1), (2, 257), (64, 8), (5, 0.3)])
def test_an_alpha_of_any_kind_comes_back(
    rank: int, alpha: float, dtype: torch.dtype, tmp_path: Path
) -> None:
    """Kohya's and PEFT's formats hold it beside the factors, which stay as they are."""
    lora = random_lora(2, ranks=(rank,), scales=(alpha / rank,), dtype=dtype)
    for format in ("kohya", "peft"):
        assert_equal(read_lora(written(lora, tmp_path, format)), lora)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_a_format_cannot_hold_costs_no_digit_where_it_is_a_power_of_two(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    lora = random_lora(3, ranks=(2, 4), scales=(0.25, 2), dtype=dtype)
    for format in FORMATS:
        back = read_lora(written(lora, tmp_path, format))
        for module, value in deltas(lora).items():
            assert torch.equal(delta(back[module]), value)
            assert back[module].rank == lora[module].rank
    assert_equal(read_lora(written(lora, tmp_path, "peft")), lora)


@pytest.mark.parametrize("format", FORMATS)
def test_writing_twice_gives_the_same_bytes(format: Format, tmp_path: Path) -> None:
    lora = random_lora(4, ranks=(2, 3), scales=(0.7, 1.1))
    first = sha256(written(lora, tmp_path, format))
    assert sha256(written(lora, tmp_path, format)) == first
    again = suited(suited(lora, format), format)
    assert_equal(again, suited(lora, format))


@pytest.fixture
def pipeline() -> Any:
    """A tiny SDXL, of whose modules every one may be changed."""
    return tiny_pipeline("sdxl")


def a_third(shapes: Shapes) -> Shapes:
    """Return a third of the modules, with those at the ends and the text encoders' whole."""
    chosen = list(shapes)[::3]
    return {
        module: shape
        for module, shape in shapes.items()
        if module in chosen or "blocks" not in module.name
    }


@pytest.mark.parametrize("format", ["kohya", "diffusers"])
def test_diffusers_reads_every_module_at_its_scale(
    format: Format, pipeline: Any, tmp_path: Path
) -> None:
    """Though ranks and alphas differ, which it would read wrong as they are."""
    lora = random_lora(5, a_third(shapes_in(pipeline)), (2, 3, 2), (7 / 3, 3.5))
    file = written(lora, tmp_path, format)
    pipeline.load_lora_weights(str(file))
    assert_same(worn(pipeline), deltas(lora), 1e-6)


def test_alphas_that_differ_are_read_wrong_by_diffusers_until_they_are_converted(
    tmp_path: Path,
) -> None:
    """Why `kohya` has one alpha: of attention diffusers takes another for the usual one."""
    attention = Module("unet", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q")
    shapes = {attention: (16, 16), Module("unet", "conv_in"): (8, 4, 3, 3)}
    lora = random_lora(6, {**shapes, Module("unet", "conv_out"): (4, 8, 3, 3)}, scales=(1, 2, 2))
    save_file(as_kohya(lora, {m: m.name for m in lora}), tmp_path / "uneven.safetensors")
    assert_equal(read_lora(tmp_path / "uneven.safetensors"), lora)
    for file, is_right in ((tmp_path / "uneven.safetensors", False), (None, True)):
        pipeline = tiny_pipeline("sd1")
        pipeline.load_lora_weights(str(file or written(lora, tmp_path, "kohya")))
        found, expected = worn(pipeline)[attention], delta(lora[attention])
        assert torch.allclose(found, expected, rtol=1e-4) == is_right


def test_old_diffusers_would_read_it_too(tmp_path: Path) -> None:
    """Before 0.34 it takes alpha for the rank, and all ranks for the first: so they are."""
    lora = random_lora(6, ranks=(2, 4), scales=(7 / 3, 3.5))
    tensors = load_file(written(lora, tmp_path, "diffusers"))
    assert {tensor.shape[0] for name, tensor in tensors.items() if "lora_A" in name} == {4}
    product = {
        module: tensors[f"{module}.lora_B.weight"].flatten(1).double()
        @ tensors[f"{module}.lora_A.weight"].flatten(1).double()
        for module in lora
    }
    assert_same(product, deltas(lora), 1e-6)


def test_peft_reads_its_folder(tmp_path: Path) -> None:
    from peft import PeftModel

    pipeline = tiny_pipeline("sd1")
    shapes = {m: s for m, s in shapes_in(pipeline).items() if m.component == "unet"}
    lora = random_lora(7, a_third(shapes), (2, 3), (7 / 3, 0.3, 0.3))
    PeftModel.from_pretrained(pipeline.unet, written(lora, tmp_path, "peft"))
    assert_same(worn(pipeline), deltas(lora), 1e-6)


def test_several_components_are_a_peft_folder_each(tmp_path: Path) -> None:
    folder = written(random_lora(8), tmp_path, "peft")
    assert sorted(entry.name for entry in folder.iterdir()) == ["text_encoder", "unet"]
    config = json.loads((folder / "unet" / "adapter_config.json").read_text())
    LoraConfig(**config)


def test_a_folder_of_peft_may_have_any_name(tmp_path: Path) -> None:
    """One that is a component's says whose modules are in it."""
    texts = {m: s for m, s in SHAPES.items() if m.component == "text_encoder"}
    lora = random_lora(8, texts)
    folder = written(lora, tmp_path, "peft") / "text_encoder"
    moved = folder.rename(tmp_path / "text_encoder_lora")
    assert_equal(read_lora(moved), lora)
    second = moved.rename(tmp_path / "text_encoder_2")
    assert {module.component for module in read_lora(second)} == {"text_encoder_2"}


@pytest.mark.parametrize("rank_stabilised", [False, True])
def test_a_folder_that_peft_wrote(rank_stabilised: bool, tmp_path: Path) -> None:
    pipeline = tiny_pipeline("sd1")
    config = LoraConfig(
        r=2,
        lora_alpha=7,
        target_modules=["to_q", "conv1", "proj_in", "ff.net.2"],
        rank_pattern={"mid_block.attentions.0.proj_in": 3, "to_q": 4},
        alpha_pattern={r"down_blocks\.0\..*\.conv1": 5},
        use_rslora=rank_stabilised,
        init_lora_weights=False,
    )
    model = get_peft_model(pipeline.unet, config)
    model.save_pretrained(tmp_path)
    assert_same(deltas(read_lora(tmp_path)), worn(pipeline), 1e-6)
    raw = {f"unet.{n}": v.contiguous() for n, v in get_peft_model_state_dict(model).items()}
    save_file(raw, tmp_path / "raw.safetensors")
    assert read_lora(tmp_path / "raw.safetensors").keys() == read_lora(tmp_path).keys()


def test_a_file_that_diffusers_wrote(tmp_path: Path) -> None:
    """With its header of alphas, for both networks."""
    pipeline = tiny_pipeline("sd1")
    networks = {"unet": ["to_k", "conv2"], "text_encoder": ["q_proj", "fc1"]}
    for name, targets in networks.items():
        config = LoraConfig(r=2, lora_alpha=7, target_modules=targets, init_lora_weights=False)
        getattr(pipeline, name).add_adapter(config, "default")
    StableDiffusionXLPipeline.save_lora_weights(
        tmp_path,
        unet_lora_layers=get_peft_model_state_dict(pipeline.unet),
        text_encoder_lora_layers=get_peft_model_state_dict(pipeline.text_encoder),
        unet_lora_adapter_metadata=pipeline.unet.peft_config["default"].to_dict(),
        text_encoder_lora_adapter_metadata=pipeline.text_encoder.peft_config["default"].to_dict(),
    )
    assert_same(deltas(read_lora(tmp_path)), worn(pipeline), 1e-6)


@pytest.mark.parametrize("original", [False, True])
def test_a_file_that_kohya_wrote(original: bool, pipeline: Any, tmp_path: Path) -> None:
    """With diffusers' names or the original ones of SDXL, as diffusers reads it."""
    shapes = {m: s for m, s in shapes_in(pipeline).items() if m.component == "unet"}
    lora = random_lora(9, a_third(shapes), (2,), (3.5,))
    names = {module: module.name for module in lora}
    if original:
        named = zip(pipeline.unet.state_dict(), originally_named(pipeline.unet), strict=True)
        weights = dict(named)
        names = {m: weights[f"{m.name}.weight"].removesuffix(".weight") for m in lora}
    save_file(as_kohya(lora, names), tmp_path / "style.safetensors")
    found = read_lora(tmp_path / "style.safetensors")
    assert_equal(found, lora)
    pipeline.load_lora_weights(str(tmp_path / "style.safetensors"))
    theirs = worn(pipeline)
    # Of diffusers' names diffusers itself loses those of the added embedding.
    assert len(lora) - len(theirs) == (0 if original else 2)
    assert_same(theirs, {m: value for m, value in deltas(found).items() if m in theirs}, 1e-6)


def as_kohya(lora: Lora, names: dict[Module, str]) -> dict[str, Tensor]:
    tensors = {}
    for module, factor in lora.items():
        key = f"lora_unet_{names[module].replace('.', '_')}"
        tensors[f"{key}.lora_down.weight"] = factor.down
        tensors[f"{key}.lora_up.weight"] = factor.up
        tensors[f"{key}.alpha"] = torch.tensor(factor.alpha)
    return tensors


def test_diffusers_of_old_named_attention_by_its_processors(tmp_path: Path) -> None:
    block = "down_blocks.0.attentions.0.transformer_blocks.0"
    layer = "text_model.encoder.layers.0"
    attention, texts = f"{block}.attn1", f"{layer}.self_attn"
    names = {
        f"unet.{attention}.processor.to_q_lora": Module("unet", f"{attention}.to_q"),
        f"unet.{attention}.processor.to_out_lora": Module("unet", f"{attention}.to_out.0"),
        f"unet.{block}.ff.net.2.lora": Module("unet", f"{block}.ff.net.2"),
        f"text_encoder.{texts}.to_q_lora": Module("text_encoder", f"{texts}.q_proj"),
        f"text_encoder.{texts}.k_proj.lora_linear_layer": Module("text_encoder", f"{texts}.k_proj"),
        f"text_encoder_2.{texts}.to_out_lora": Module("text_encoder_2", f"{texts}.out_proj"),
    }
    rng = torch.Generator().manual_seed(0)
    parts = {"down": (2, 6), "up": (5, 2)}
    tensors = {
        f"{name}.{part}.weight": torch.randn(shape, generator=rng)
        for name in names
        for part, shape in parts.items()
    }
    save_file(tensors, tmp_path / "old.safetensors")
    lora = read_lora(tmp_path / "old.safetensors")
    assert set(lora) == set(names.values())
    for name, module in names.items():
        expected = tensors[f"{name}.up.weight"] @ tensors[f"{name}.down.weight"]
        torch.testing.assert_close(delta(lora[module]).float(), expected)
    bare = {n.removeprefix("unet."): v for n, v in tensors.items() if n.startswith("unet.")}
    save_file(bare, tmp_path / "bare.safetensors")
    assert set(read_lora(tmp_path / "bare.safetensors")) == {
        module for module in lora if module.component == "unet"
    }


def test_a_convolution_in_three_factors_is_two_convolutions_in_a_row(tmp_path: Path) -> None:
    """LoCon's middle: 1 x 1 down, 3 x 3, 1 x 1 up; one after another on a picture."""
    rng = torch.Generator().manual_seed(0)
    down = torch.randn(3, 4, 1, 1, generator=rng)
    mid = torch.randn(3, 3, 3, 3, generator=rng)
    up = torch.randn(6, 3, 1, 1, generator=rng)
    key = "lora_unet_conv_in"
    tensors = {f"{key}.lora_down.weight": down, f"{key}.lora_mid.weight": mid}
    tensors |= {f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(1.5)}
    save_file(tensors, tmp_path / "locon.safetensors")
    (factor,) = read_lora(tmp_path / "locon.safetensors").values()
    x = torch.randn(1, 4, 8, 8, generator=rng)
    conv = torch.nn.functional.conv2d
    expected = 0.5 * conv(conv(conv(x, down), mid, padding=1), up)
    found = conv(x, delta(factor).float(), padding=1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_our_own_adapter_is_written_as_we_publish_it(dtype: torch.dtype, tmp_path: Path) -> None:
    """The same names, alphas and bytes as the released LCM-LoRAs have (tests/tables)."""
    unet = tiny_pipeline("sd1").unet.requires_grad_(False)
    for parameter in attach(unet, 3, 257, 0):
        torch.nn.init.normal_(parameter, std=0.1)
    write_adapter(unet, tmp_path, dtype, {"ss_v2": "False"})
    ours, again = tmp_path / WEIGHTS, tmp_path / "again.safetensors"
    write_lora(read_lora(ours), again, "kohya", {"ss_v2": "False"})
    tensors, expected = load_file(again), published(unet, dtype)
    assert tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    assert sha256(again) == sha256(ours)
