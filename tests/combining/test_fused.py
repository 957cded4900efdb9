"""One combined file paints what several adapters paint together, in diffusers and here."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loras import assert_same, random_lora, shapes_in, worn
from plain_diffusers import paint_plainly
from tiny_bases import tiny_pipeline
from torch import Tensor

from lcm_lora.bases import Base
from lcm_lora.combining.combine import Wanted, combine
from lcm_lora.combining.delta import Module
from lcm_lora.combining.write import write_lora
from lcm_lora.files import sha256
from lcm_lora.painting.dressed import wearing
from lcm_lora.painting.paint import paint
from lcm_lora.painting.schedulers import scheduler_of
from lcm_lora.painting.subject import Subject, Weighted
from lcm_lora.params.generate import Cell
from lcm_lora.shapes import places

CAPTIONS = [f"a small {color} ring on a navy background" for color in ("red", "blue")]


def two_files(pipeline: Any, folder: Path, loud: float) -> tuple[Path, Path]:
    """Write an acceleration of the UNet, and a style of attention and text encoders."""
    shapes = dict(list(shapes_in(pipeline).items())[::2])
    unet = {module: shape for module, shape in shapes.items() if module.component == "unet"}
    styled = {m: s for m, s in shapes.items() if m not in unet or "attn" in m.name}
    projection = Module("text_encoder_2", "text_projection")
    styled |= {m: s for m, s in shapes_in(pipeline).items() if m == projection}
    fast, style = folder / "fast.safetensors", folder / "style.safetensors"
    write_lora(random_lora(1, unet, (2,), (3.5 * loud,)), fast, "kohya", {})
    write_lora(random_lora(2, styled, (3,), (loud / 3,)), style, "diffusers", {})
    return fast, style


def painted(pipeline: Any) -> Tensor:
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    latents: Tensor = pipeline(
        "a red ring", latents=noise, num_inference_steps=2, guidance_scale=1.0,
        output_type="latent", height=16, width=16,
    ).images  # fmt: skip
    return latents


def test_fused_equals_stacked_in_diffusers(tmp_path: Path) -> None:
    bare = tiny_pipeline("sdxl")
    fast, style = two_files(bare, tmp_path, 0.01)
    several, one = copy.deepcopy(bare), copy.deepcopy(bare)
    several.load_lora_weights(str(fast), adapter_name="fast")
    several.load_lora_weights(str(style), adapter_name="style")
    several.set_adapters(["fast", "style"], [1.0, 0.8])
    file = tmp_path / "both.safetensors"
    combine([(fast, 1.0), (style, 0.8)], file, Wanted())
    one.load_lora_weights(str(file))
    assert_same(worn(one), worn(several), 1e-5)
    one.fuse_lora()
    one.unload_lora_weights()
    stacked, fused = painted(several), painted(one)
    torch.testing.assert_close(fused, stacked, rtol=1e-3, atol=1e-3)
    assert (painted(bare) - stacked).abs().max() > 0.1


def test_plain_diffusers_paints_what_our_pipeline_paints(base: Base, tmp_path: Path) -> None:
    """A fresh process with the combined file; here both adapters are worn by their weights."""
    files = two_files(base.pipeline, tmp_path, 0.003)
    both = tmp_path / "both.safetensors"
    combine(list(zip(files, (1.0, 0.8), strict=True)), both, Wanted())
    theirs = paint_plainly(places.BASE, both, CAPTIONS, tmp_path)
    worn_here = [
        Weighted(file, sha256(file), weight) for file, weight in zip(files, (1.0, 0.8), strict=True)
    ]
    bare = ours(base)
    with wearing(base, Subject(base.found, tuple(worn_here))):
        stacked = ours(base)
    assert np.abs(theirs.astype(int) - stacked).max() <= 1
    assert np.abs(bare.astype(int) - stacked).mean() > 2


def ours(base: Base) -> Any:
    config = dict(base.pipeline.scheduler.config)
    found = []
    for i, caption in enumerate(CAPTIONS):
        base.pipeline.scheduler = scheduler_of("lcm", config)
        found.append(paint(base, [caption], Cell(steps=4, guidance=1.0), 32, 11, i))
    return np.concatenate(found)
