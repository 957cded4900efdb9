"""The LoRA adapter: where it sits, how it is switched off for the teacher, how it is written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn

from lcm_lora.adapter_files import KOHYA, WEIGHTS
from lcm_lora.alpha import alpha_tensor
from lcm_lora.files import link, write_tensors

TARGETS = (
    *("to_q", "to_k", "to_v", "to_out.0"),
    *("proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"),
    *("conv1", "conv2", "conv_shortcut", "time_emb_proj"),
    *("downsamplers.0.conv", "upsamplers.0.conv"),
)
"""What the published LCM-LoRAs adapt: at rank 64, 67,252,224 parameters for SD-1.5."""

_PARTS = {"lora_A": "lora_down", "lora_B": "lora_up"}


def attach(unet: Any, rank: int, alpha: int, seed: int) -> list[nn.Parameter]:
    """Attach a fresh adapter to a frozen UNet and return its parameters, all fp32.

    B is zero, so the adapted network starts equal to the base. A is a function of `seed`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet.add_adapter(
            LoraConfig(
                r=rank, lora_alpha=alpha, target_modules=list(TARGETS), init_lora_weights=True
            )
        )
    parameters = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    for parameter in parameters:
        # In bf16 an Adam step of 1e-4 is below the spacing of most weights: nothing would move.
        parameter.data = parameter.data.float()
    return parameters


def compute_as_given(unet: nn.Module) -> None:
    """Let an adapter take its input as it comes, in half precision under autocast.

    PEFT casts it to the adapter's fp32 first; autocast lowers that again, so nothing is gained, and
    the copy is kept for the backward pass.
    """
    for layer in _layers(unet):
        layer.cast_input_dtype_enabled = False


def _layers(unet: nn.Module) -> list[BaseTunerLayer]:
    return [module for module in unet.modules() if isinstance(module, BaseTunerLayer)]


@contextlib.contextmanager
def adapter_off(unet: nn.Module) -> Iterator[None]:
    """Make an adapted UNet compute exactly as its base inside the block.

    PEFT's own switch also turns off `requires_grad`, which silently trains nothing if the order of
    passes changes; this one touches only what the forward pass reads.
    """
    layers = _layers(unet)
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


def write_adapter(unet: Any, folder: Path, dtype: torch.dtype, metadata: Mapping[str, str]) -> None:
    """Write the adapter of a UNet into a folder, under both names that people look for.

    `WEIGHTS` is the name that diffusers and the hubs know, `KOHYA` the one that users of WebUI and
    ComfyUI know; people drop either anywhere, so both are the same bytes, and load whole.

    Args:
        unet: Holds the adapter.
        folder: Exists.
        dtype: Of the weights in the file.
        metadata: The file's header; see `lcm_lora.adapter_metadata`.
    """
    write_tensors(folder / WEIGHTS, published(unet, dtype), metadata)
    (folder / KOHYA).unlink(missing_ok=True)
    link(folder / WEIGHTS, folder / KOHYA)


def published(unet: Any, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the adapter of a UNet under the names of the published LCM-LoRAs.

    For each adapted module of in x out: `lora_unet_NAME` with `.lora_down.weight` [rank, in, ...],
    `.lora_up.weight` [out, rank, ...] and `.alpha`, a scalar; NAME is the module's in diffusers,
    with underscores. Without its alpha an adapter is read as if alpha were the rank: silently at a
    wrong scale. PEFT's names half-load in UIs and lose alpha in diffusers before 0.34.

    Source: the converter in diffusers' examples/consistency_distillation, which the published
    files were written with, and the names that kohya-ss/sd-scripts reads.
    """
    alpha = alpha_tensor(unet.peft_config["default"].lora_alpha, dtype)
    tensors = {}
    for name, value in get_peft_model_state_dict(unet).items():
        module, part, _ = name.rsplit(".", 2)
        key = f"lora_unet_{module.replace('.', '_')}"
        tensors[f"{key}.{_PARTS[part]}.weight"] = value.detach().to(dtype)
        tensors[f"{key}.alpha"] = alpha.clone()
    return tensors
