"""Adapters as they are worn: all of them, at the scales that their files say, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from making import CPU
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file
from serving import looked_at
from styles import write_style
from tiny_bases import tiny_pipeline
from torch import Tensor, nn

from lcm_lora.bases import Base, load_base
from lcm_lora.combining.delta import Factor, Module
from lcm_lora.combining.write import write_lora
from lcm_lora.errors import UserError
from lcm_lora.painting.dressed import Wardrobe
from lcm_lora.painting.paint import paint
from lcm_lora.painting.studio import SharedBase, Studio
from lcm_lora.painting.subject import Subject, Weighted
from lcm_lora.params.base import Base as BaseParams
from lcm_lora.params.generate import Cell, Sampling

ONE = Cell(steps=1, guidance=1.0)
QUERY = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
SHAPES = {QUERY: (16, 16), "conv_in": (8, 4, 3, 3), "conv_out": (4, 8, 3, 3)}
KOHYA = f"lora_unet_{QUERY.replace('.', '_')}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base, and a style for it with its text encoder."""
    folder = tmp_path_factory.mktemp("dressed")
    tiny_pipeline("sd1").save_pretrained(folder / "sd1")
    write_style(folder / "good.safetensors", "sd1", seed=1, texts=True)
    return folder


@pytest.fixture(scope="module")
def dressable(folder: Path) -> Base:
    return load_base(looked_at(folder, BaseParams(model=str(folder / "sd1"))), CPU)


@pytest.fixture
def base(dressable: Base) -> Any:
    """Bare, and bare again in the end."""
    yield dressable
    dressable.pipeline.unload_lora_weights()


def in_kohyas_names(alphas: dict[str, float]) -> dict[str, Tensor]:
    """Return a LoRA of rank 2 on a few modules, each with an alpha of its own."""
    rng, tensors = torch.Generator().manual_seed(0), {}
    for name, alpha in alphas.items():
        out, *ins = SHAPES[name]
        key = f"lora_unet_{name.replace('.', '_')}"
        ones = [1] * (len(ins) - 1)
        tensors |= {
            f"{key}.lora_down.weight": torch.randn(2, *ins, generator=rng),
            f"{key}.lora_up.weight": torch.randn(out, 2, *ones, generator=rng),
            f"{key}.alpha": torch.tensor(alpha),
        }
    return tensors


def wearing(base: Base, *files: Path) -> Subject:
    return Subject(base.found, tuple(Weighted(file, str(file)) for file in files))


def added(network: nn.Module) -> dict[str, Tensor]:
    """Return what a network's adapters add to each module."""
    return {
        name: sum(module.get_delta_weight(adapter) for adapter in module.active_adapters)
        for name, module in network.named_modules()
        if isinstance(module, BaseTunerLayer)
    }


def painted(base: Base) -> bytes:
    return paint(base, ["a red ring"], ONE, 16, 3).tobytes()


def test_alphas_that_differ_from_module_to_module_count_each(base: Base, tmp_path: Path) -> None:
    """Of which diffusers by itself takes one for attention."""
    alphas = {QUERY: 2.0, "conv_in": 4.0, "conv_out": 1.0}
    tensors = in_kohyas_names(alphas)
    save_file(tensors, tmp_path / "uneven.safetensors")
    Wardrobe(base).wear(wearing(base, tmp_path / "uneven.safetensors"))
    found = added(base.unet)
    assert found.keys() == alphas.keys()
    for name, alpha in alphas.items():
        key = f"lora_unet_{name.replace('.', '_')}"
        up, down = (tensors[f"{key}.lora_{part}.weight"].flatten(1) for part in ("up", "down"))
        torch.testing.assert_close(found[name].flatten(1), alpha / 2 * up @ down)


def test_what_is_published_paints_as_diffusers_loads_its_file(base: Base, folder: Path) -> None:
    """To the bit, denoiser and text encoder."""
    bare = painted(base)
    Wardrobe(base).wear(wearing(base, folder / "good.safetensors"))
    here = painted(base)
    assert all(value.any() for value in added(base.pipeline.text_encoder).values())
    base.pipeline.unload_lora_weights()
    base.pipeline.load_lora_weights(str(folder / "good.safetensors"), adapter_name="by-hand")
    base.pipeline.set_adapters(["by-hand"], [1.0])
    assert here == painted(base)
    assert here != bare


def test_in_half_precision_adapters_stay_beside_weights_that_would_round_them_away(
    base: Base, folder: Path
) -> None:
    subject = wearing(base, folder / "good.safetensors")
    half = CPU.model_copy(update={"precision": "bf16"})
    how = Sampling(sampler="ddim", cells=(ONE,))
    own, shared = Studio(subject, half), Studio(subject, half, SharedBase(base.found, half))
    assert painted(own.take(how)) == painted(shared.take(how))
    assert own.wears
    fused = Studio(subject, CPU)
    assert not fused.wears
    assert not added(fused.take(how).unet)


def write_bad(path: Path, kind: str, good: Path) -> None:
    query = in_kohyas_names({QUERY: 2.0})
    match kind:
        case "of no such module":
            gone = {
                key.replace("mid_block", "up_blocks_9"): value.clone()
                for key, value in query.items()
            }
            save_file(query | gone, path)
        case "of another shape":
            wide = {key: v.repeat(1, 2) if "down" in key else v for key, v in query.items()}
            save_file(wide, path)
        case "DoRA":
            save_file(query | {f"{KOHYA}.dora_scale": torch.ones(16, 1)}, path)
        case "not finite":
            tensors = load_file(good)
            key = next(key for key in tensors if "lora_up" in key)
            tensors[key][0, 0] = torch.nan
            save_file(tensors, path)
        case "of the second text encoder":
            module = Module("text_encoder_2", "text_model.encoder.layers.0.mlp.fc1")
            write_lora(
                {module: Factor(torch.ones(2, 16), torch.ones(32, 2), 1.0)}, path, "kohya", {}
            )


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("of no such module", "which has no such unet.up_blocks.9."),
        ("of another shape", f"which has no such unet.{QUERY}; name an adapter for this family"),
        ("DoRA", "holds DoRA, which no sum of LoRAs can hold"),
        ("not finite", "holds NaN or infinity"),
        ("of the second text encoder", "which has no such text_encoder_2."),
    ],
)
@pytest.mark.filterwarnings("error::UserWarning")
def test_what_cannot_be_worn_whole_is_not_worn_and_nothing_else_is(
    kind: str, words: str, base: Base, folder: Path, tmp_path: Path
) -> None:
    """Not even what was worn before, or is named beside it; and again it is said."""
    good, bad = folder / "good.safetensors", tmp_path / "bad.safetensors"
    write_bad(bad, kind, good)
    wardrobe = Wardrobe(base)
    wardrobe.wear(wearing(base, good))
    for files in ((good, bad), (bad,)):
        with pytest.raises(UserError) as error:
            wardrobe.wear(wearing(base, *files))
        assert words in str(error.value)
        assert str(error.value).startswith(f"{bad}: ")
        assert not base.pipeline.get_list_adapters()
        assert not any(isinstance(module, BaseTunerLayer) for module in base.unet.modules())
