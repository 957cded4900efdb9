"""The LoRA adapter: where it sits, how it is switched off for the teacher, how it is written."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import convert_state_dict_to_kohya
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lcm_lora.files import sort_header, write_tensors
from lcm_lora.recipe import KOHYA, WEIGHTS

TARGETS = (
    *("to_q", "to_k", "to_v", "to_out.0"),
    *("proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"),
    *("conv1", "conv2", "conv_shortcut", "time_emb_proj"),
    *("downsamplers.0.conv", "upsamplers.0.conv"),
)
"""What the published LCM-LoRAs adapt: at rank 64, 67,252,224 parameters for SD-1.5."""


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


@contextlib.contextmanager
def adapter_off(unet: nn.Module) -> Iterator[None]:
    """Make an adapted UNet compute exactly as its base inside the block.

    PEFT's own switch also turns off `requires_grad`, which silently trains nothing if the order of
    passes changes; this one touches only what the forward pass reads.
    """
    layers = [module for module in unet.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


def weights_of(unet: Any) -> dict[str, Tensor]:
    """Return the adapter's weights under PEFT's names, contiguous and on the CPU."""
    return {
        name: value.detach().cpu().contiguous()
        for name, value in get_peft_model_state_dict(unet).items()
    }


def write_adapter(unet: Any, folder: Path, dtype: torch.dtype) -> None:
    """Write the adapter for diffusers (with its alpha) and for WebUI and ComfyUI.

    A diffusers file without alpha is loaded as if alpha were the rank: silently at a wrong scale.
    """
    config = unet.peft_config["default"]
    weights = {name: value.to(dtype) for name, value in weights_of(unet).items()}
    metadata = {
        "r": config.r,
        "lora_alpha": config.lora_alpha,
        "target_modules": sorted(TARGETS),
    }
    try:
        StableDiffusionPipeline.save_lora_weights(
            str(folder), unet_lora_layers=weights, unet_lora_adapter_metadata=metadata
        )
    except SafetensorError as error:  # what safetensors makes of a full disk
        raise OSError(errno.ENOSPC, str(error), str(folder / WEIGHTS)) from error
    sort_header(folder / WEIGHTS)
    saved = load_file(folder / WEIGHTS)
    kohya = convert_state_dict_to_kohya(saved)
    alpha = torch.tensor(float(config.lora_alpha), dtype=dtype)
    # The converter writes alpha = rank; and each tensor must own its memory.
    kohya = {
        name: alpha.clone() if name.endswith(".alpha") else value.contiguous()
        for name, value in kohya.items()
    }
    write_tensors(folder / KOHYA, kohya, {"format": "pt"})
