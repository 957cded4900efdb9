"""Small random LoRAs, and what a diffusers pipeline makes of a LoRA's file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lcm_lora.combining.delta import COMPONENTS, Factor, Lora, Module, delta

Shapes = Mapping[Module, tuple[int, ...]]

ATTENTION = "down_blocks.1.attentions.0.transformer_blocks.0"
SHAPES: Shapes = {
    Module("unet", f"{ATTENTION}.attn1.to_q"): (8, 8),
    Module("unet", f"{ATTENTION}.attn2.to_k"): (8, 16),
    Module("unet", f"{ATTENTION}.ff.net.0.proj"): (20, 6),
    Module("unet", "conv_in"): (6, 4, 3, 3),
    Module("unet", "mid_block.resnets.0.conv_shortcut"): (7, 9, 1, 1),
    Module("text_encoder", "text_model.encoder.layers.0.self_attn.q_proj"): (5, 5),
}
"""Of one module of each kind, tiny."""


def random_lora(
    seed: int,
    shapes: Shapes = SHAPES,
    ranks: Sequence[int] = (2,),
    scales: Sequence[float] = (0.5,),
    dtype: torch.dtype = torch.float32,
) -> Lora:
    """Return a LoRA on these modules, whose ranks and scales go round."""
    rng = torch.Generator().manual_seed(seed)
    lora = {}
    for i, (module, (out, *ins)) in enumerate(shapes.items()):
        rank = ranks[i % len(ranks)]
        down = torch.randn(rank, *ins, generator=rng)
        up = torch.randn(out, rank, *(1 for _ in ins[1:]), generator=rng)
        lora[module] = Factor(down.to(dtype), up.to(dtype), scales[i % len(scales)])
    return dict(sorted(lora.items()))


def shapes_in(pipeline: Any) -> Shapes:
    """Return every linear layer and convolution that an adapter may change, with its shape."""
    return {
        Module(component, _filed(name)): tuple(module.weight.shape)
        for component in COMPONENTS
        if getattr(pipeline, component, None) is not None
        for name, module in getattr(pipeline, component).named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }


def worn(pipeline: Any) -> dict[Module, Tensor]:
    """Return what a pipeline's adapters add to each module, at their weights, fp64."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {
        Module(component, _filed(name)): sum(
            module.get_delta_weight(adapter).detach().double()
            for adapter in module.active_adapters
            if adapter in module.scaling
        )
        for component in COMPONENTS
        if getattr(pipeline, component, None) is not None
        for name, module in getattr(pipeline, component).named_modules()
        if isinstance(module, BaseTunerLayer)
    }


def deltas(lora: Lora) -> dict[Module, Tensor]:
    """Return what a LoRA adds to each module, fp64."""
    return {module: delta(factor) for module, factor in lora.items()}


def assert_same(a: Mapping[Module, Tensor], b: Mapping[Module, Tensor], rtol: float) -> None:
    """Check that two adapters add the same, to a share of each module's norm."""
    assert a.keys() == b.keys()
    for module, value in a.items():
        error = (value.flatten() - b[module].flatten()).norm()
        assert error <= rtol * value.norm(), f"{module}: {error / value.norm()}"


def assert_equal(a: Lora, b: Lora) -> None:
    """Check that two LoRAs are the same, tensor for tensor."""
    assert a.keys() == b.keys()
    for module, factor in a.items():
        other = b[module]
        assert factor.down.dtype == other.down.dtype, module
        assert torch.equal(factor.down, other.down), module
        assert torch.equal(factor.up, other.up), module
        assert factor.alpha == other.alpha, module


def _filed(name: str) -> str:
    """Return a module's name as files have it: transformers 5 lost the first word of some."""
    return f"text_model.{name}" if name.startswith("encoder.") else name
