"""What a distillation takes, counted on networks without weights: memory and arithmetic.

Nothing is guessed but the share of a device's speed that a whole run reaches: the networks of the
base's configuration run once on tensors that are shapes alone, while what backward would keep and
every multiplication are counted.

Legend: B samples of a micro-batch, FLOP floating-point operations (two a multiply-add).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from peft import LoraConfig
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from lcm_lora.adapter import TARGETS, compute_as_given
from lcm_lora.params.distill import Distill
from lcm_lora.precision import DTYPES

ADAPTER_BYTES = 16
"""Of one adapter weight in training: master, gradient and two moments of AdamW, in fp32."""
_TOKENS = 77


class _FlashAttention(torch.autograd.Function):
    """Attention by its shapes, keeping what a fused kernel keeps; shapes know the plain one only.

    Source: Dao et al. 2022, algorithm 1 keeps the output and one number a row besides its inputs.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = torch.empty_like(query)
        rows = torch.empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, output, rows)
        return output


class _Fused(TorchFunctionMode):
    """Let attention be the fused one, as it is on every GPU."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is scaled_dot_product_attention:
            return _FlashAttention.apply(*args[:3])
        return function(*args, **(kwargs or {}))


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that one training process holds at its fullest."""

    denoiser: int
    others: int
    """Text encoders and autoencoder, in fp32."""
    adapter: int
    activations: int
    """What backward keeps of one micro-batch."""

    @property
    def total(self) -> int:
        """All of it; allocators and libraries come on top."""
        return self.denoiser + self.others + self.adapter + self.activations


@dataclass(frozen=True, slots=True)
class Work:
    """FLOP of one pass over one sample, forward."""

    denoiser: float
    encoder: float
    decoder: float
    texts: float
    """Of one caption, by all text encoders."""

    def of_training(self, is_checkpointed: bool) -> float:
        """Return the FLOP of one training sample.

        Student, target and the teacher's two branches forward, and the student's backward, which
        costs about another pass, since the base's weights want no gradient; checkpointing runs the
        student once more.
        """
        return (5 + is_checkpointed) * self.denoiser


def memory(configs: Path, params: Distill, precision: str, resolution: int, batch: int) -> Memory:
    """Return what training takes, in half precision as a GPU does; a CPU keeps less.

    Args:
        configs: A diffusers folder with the base's configuration files.
        params: Of the distillation.
        precision: Of the denoiser.
        resolution: Pixels of a picture's side.
        batch: B.
    """
    dtype = DTYPES[precision]
    with torch.device("meta"):
        unet = _unet(configs)
        weights = _count(unet)
        others = _count(_vae(configs)) + sum(_count(text) for text in _texts(configs))
        unet.requires_grad_(False).add_adapter(
            LoraConfig(r=params.rank, lora_alpha=params.alpha, target_modules=list(TARGETS))
        )
    compute_as_given(unet)
    adapter = sum(p.numel() for p in unet.parameters() if p.requires_grad)
    with FakeTensorMode(), torch.device("cuda"), _autocast(dtype):
        _move(unet, dtype)
        kept = _kept(unet, configs, resolution, batch, dtype, params.gradient_checkpointing)
    return Memory(
        denoiser=weights * dtype.itemsize,
        others=4 * others,
        adapter=ADAPTER_BYTES * adapter,
        activations=kept,
    )


def work(configs: Path, resolution: int) -> Work:
    """Return the arithmetic of one sample of `resolution` pixels a side."""
    with torch.device("meta"), torch.no_grad():
        unet, vae = _unet(configs), _vae(configs)
        side = resolution // _downsampling(configs)
        pixels = torch.empty(1, 3, resolution, resolution)
        latents = torch.empty(1, vae.config.latent_channels, side, side)
        tokens = torch.zeros(1, _TOKENS, dtype=torch.int64)
        texts = _texts(configs)
        return Work(
            denoiser=_flop(lambda: _run(unet, configs, resolution, 1, torch.float32)),
            encoder=_flop(lambda: vae.encode(pixels)),
            decoder=_flop(lambda: vae.decode(latents)),
            texts=_flop(lambda: [text(tokens) for text in texts]),
        )


@contextlib.contextmanager
def _autocast(dtype: torch.dtype) -> Iterator[None]:
    """Let operations choose their dtypes as on a GPU: some compute in fp32, and keep it.

    `torch.autocast` itself does nothing where there is no GPU.
    """
    usual = torch.get_autocast_dtype("cuda")
    torch.set_autocast_dtype("cuda", dtype)
    torch.set_autocast_enabled("cuda", dtype != torch.float32)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.set_autocast_dtype("cuda", usual)
        torch.clear_autocast_cache()


def _move(unet: nn.Module, dtype: torch.dtype) -> None:
    """Make the parameters anew on the device and in the mode of now, the base's in `dtype`."""
    for module in unet.modules():
        for name, old in list(module.named_parameters(recurse=False)):
            new = torch.empty(old.shape, dtype=old.dtype if old.requires_grad else dtype)
            setattr(module, name, nn.Parameter(new, old.requires_grad))


def _kept(
    unet: Any, configs: Path, resolution: int, batch: int, dtype: torch.dtype, checkpoint: bool
) -> int:
    """Return the bytes that the student's pass keeps for backward, at the fullest moment."""
    held: list[Any] = []  # so that no storage's number is given twice
    weights = {parameter.untyped_storage()._cdata for parameter in unet.parameters()}
    kept: dict[int, int] = {}
    fullest = 0

    def keep(tensor: Tensor, into: dict[int, int]) -> Tensor:
        held.append(tensor)
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            into[storage._cdata] = storage.nbytes()
        return tensor

    def checkpointed(module: Callable[..., Any], *args: Any) -> Any:
        """Keep what goes in; what happens inside is kept only while it is run again."""
        nonlocal fullest
        for argument in args:
            if isinstance(argument, Tensor):
                keep(argument, kept)
        inside: dict[int, int] = {}
        with saved_tensors_hooks(lambda tensor: keep(tensor, inside), lambda tensor: tensor):
            output = module(*args)
        held.append(output)
        fullest = max(fullest, sum(inside.values()))
        return output

    if checkpoint:
        unet.train()
        unet.enable_gradient_checkpointing(checkpointed)
    with (
        _Fused(),
        saved_tensors_hooks(lambda tensor: keep(tensor, kept), lambda tensor: tensor),
    ):
        held.append(_run(unet, configs, resolution, batch, dtype))
    return sum(kept.values()) + fullest


def _run(unet: Any, configs: Path, resolution: int, batch: int, dtype: torch.dtype) -> Any:
    side = resolution // _downsampling(configs)
    told: dict[str, Any] = {
        "encoder_hidden_states": torch.empty(
            batch, _TOKENS, unet.config.cross_attention_dim, dtype=dtype
        )
    }
    if unet.config.addition_embed_type == "text_time":
        sizes = 6 * unet.config.addition_time_embed_dim
        pooled = unet.config.projection_class_embeddings_input_dim - sizes
        told["added_cond_kwargs"] = {
            "text_embeds": torch.empty(batch, pooled, dtype=dtype),
            "time_ids": torch.empty(batch, 6),
        }
    latents = torch.empty(batch, unet.config.in_channels, side, side, dtype=dtype)
    return unet(latents, torch.zeros(batch, dtype=torch.int64), **told, return_dict=False)[0]


def _flop(function: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter:
        function()
    return float(counter.get_total_flops())


def _unet(configs: Path) -> Any:
    return UNet2DConditionModel.from_config(_config(configs / "unet"))


def _vae(configs: Path) -> Any:
    return AutoencoderKL.from_config(_config(configs / "vae"))


def _texts(configs: Path) -> list[nn.Module]:
    classes = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}
    return [
        text(CLIPTextConfig(**_config(configs / part)))
        for part, text in classes.items()
        if (configs / part).is_dir()
    ]


def _config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return config


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _downsampling(configs: Path) -> int:
    return int(2 ** (len(_config(configs / "vae")["block_out_channels"]) - 1))
