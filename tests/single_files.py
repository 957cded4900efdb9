"""Write a diffusers pipeline as the single file that people share, by the original names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_OPEN_CLIP = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def save_single_file(
    pipeline: Any,
    path: Path,
    dtype: torch.dtype = torch.float32,
    metadata: dict[str, str] | None = None,
    extra: dict[str, Tensor] | None = None,
    without: str = "nothing",
) -> Path:
    """Write the pipeline's weights, without those whose original names begin with `without`."""
    tensors = {f"model.diffusion_model.{n}": v for n, v in unet(pipeline.unet).items()}
    tensors |= {f"first_stage_model.{n}": v for n, v in autoencoder(pipeline.vae).items()}
    tensors |= texts(pipeline)
    tensors = {n: v.to(dtype).contiguous() for n, v in tensors.items() if not n.startswith(without)}
    save_file(tensors | (extra or {}), path, metadata)
    return path


def save_vae(network: Any, path: Path, prefix: str = "") -> Path:
    """Write an autoencoder by its original names, as it is shared alone or within a whole file."""
    tensors = {f"{prefix}{n}": v.contiguous() for n, v in autoencoder(network).items()}
    save_file(tensors, path)
    return path


def unet(network: Any) -> dict[str, Tensor]:
    """Return a UNet's tensors by their original names."""
    layers = network.config.layers_per_block + 1
    return {_unet_name(name, layers, network): v for name, v in network.state_dict().items()}


def _unet_name(name: str, layers: int, network: Any) -> str:
    for ours, original in _UNET.items():
        if name.startswith(f"{ours}."):
            return original + name.removeprefix(ours)
    kind, block, part, number, rest = _parsed(name)
    if kind == "mid_block":
        place = f"middle_block.{2 * number if part == 'resnets' else 1}"
    elif part == "downsamplers":
        place, rest = f"input_blocks.{layers * (block + 1)}.0", rest.replace("conv", "op")
    elif part == "upsamplers":
        has_attention = hasattr(network.up_blocks[block], "attentions")
        place = f"output_blocks.{layers * block + layers - 1}.{2 if has_attention else 1}"
    else:
        row = layers * block + number + (kind == "down_blocks")
        place = f"{'in' if kind == 'down_blocks' else 'out'}put_blocks.{row}"
        place += ".0" if part == "resnets" else ".1"
    first, _, last = rest.rpartition(".")
    return f"{place}.{_RESNET.get(first, first) if part == 'resnets' else first}.{last}"


def _parsed(name: str) -> tuple[str, int, str, int, str]:
    found = re.fullmatch(r"(\w+_blocks?)(?:\.(\d+))?\.([a-z]+)\.(\d+)\.(.*)", name)
    assert found, name
    kind, block, part, number, rest = found.groups()
    return kind, int(block or 0), part, int(number), rest


def autoencoder(network: Any) -> dict[str, Tensor]:
    """Return an autoencoder's tensors by their original names."""
    blocks = len(network.config.block_out_channels)
    tensors = {}
    for name, value in network.state_dict().items():
        name = re.sub(r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2", name)
        name = re.sub(
            r"up_blocks\.(\d+)\.resnets\.(\d+)",
            lambda m: f"up.{blocks - 1 - int(m[1])}.block.{m[2]}",
            name,
        )
        name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(
            r"up_blocks\.(\d+)\.upsamplers\.0",
            lambda m: f"up.{blocks - 1 - int(m[1])}.upsample",
            name,
        )
        name = re.sub(
            r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name
        ).replace("mid_block.attentions.0", "mid.attn_1")
        is_linear = "attn_1" in name and name.endswith("weight") and "group_norm" not in name
        for ours, original in {
            "conv_shortcut": "nin_shortcut",
            "conv_norm_out": "norm_out",
            "group_norm": "norm",
            "to_q": "q",
            "to_k": "k",
            "to_v": "v",
            "to_out.0": "proj_out",
        }.items():
            name = name.replace(ours, original)
        tensors[name] = value[..., None, None] if is_linear else value
    return tensors


def texts(pipeline: Any) -> dict[str, Tensor]:
    """Return the text encoders' tensors by their original names, as the family has them."""
    first = pipeline.text_encoder.state_dict()
    if hasattr(pipeline, "text_encoder_2"):
        second = open_clip(pipeline.text_encoder_2.state_dict())
        return {f"conditioner.embedders.0.transformer.{n}": v for n, v in clip(first).items()} | {
            f"conditioner.embedders.1.model.{n}": v for n, v in second.items()
        }
    if pipeline.unet.config.use_linear_projection:
        return {f"cond_stage_model.model.{n}": v for n, v in open_clip(first).items()}
    return {f"cond_stage_model.transformer.{n}": v for n, v in clip(first).items()}


def clip(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a CLIP text model's tensors by transformers' names of the time."""
    return {f"text_model.{n.removeprefix('text_model.')}": v for n, v in tensors.items()}


def open_clip(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a CLIP text model's tensors by OpenCLIP's names."""
    plain = {name.removeprefix("text_model."): value for name, value in tensors.items()}
    found = {
        "token_embedding.weight": plain["embeddings.token_embedding.weight"],
        "positional_embedding": plain["embeddings.position_embedding.weight"],
        "ln_final.weight": plain["final_layer_norm.weight"],
        "ln_final.bias": plain["final_layer_norm.bias"],
    }
    if "text_projection.weight" in plain:
        found["text_projection"] = plain["text_projection.weight"].T
    for name, value in plain.items():
        if not name.startswith("encoder.layers."):
            continue
        layer, rest = name.removeprefix("encoder.layers.").split(".", 1)
        place = f"transformer.resblocks.{layer}"
        if ".q_proj." in rest:
            end = rest.rpartition(".")[2]
            stem = name.replace(f"q_proj.{end}", "")
            joined = torch.cat([plain[f"{stem}{part}_proj.{end}"] for part in "qkv"])
            found[f"{place}.attn.in_proj_{end}"] = joined
        elif "k_proj" not in rest and "v_proj" not in rest:
            for ours, original in _OPEN_CLIP.items():
                rest = rest.replace(ours, original)
            found[f"{place}.{rest}"] = value
    return found
