"""The names of modules: diffusers' own with dots, and those of kohya and SGM, which lost them.

A name in diffusers is a row of words and numbers; some words hold underscores, so a name whose dots
became underscores is taken apart by the words that there are. Trainers of SDXL name modules as
Stability's SGM does instead, where blocks are counted through.

Sources: diffusers' UNet2DConditionModel, transformers' CLIPTextModel; kohya-ss/sd-scripts
(networks/lora.py, library/sdxl_original_unet.py); SGM's numbering as in diffusers'
loaders/single_file_utils.py.
"""

from __future__ import annotations

import re

from lcm_lora.combining.delta import Component, Module

KOHYA: dict[Component, str] = {
    "unet": "lora_unet_",
    "text_encoder": "lora_te_",
    "text_encoder_2": "lora_te2_",
}
"""How kohya's names of each component begin, where there is one text encoder."""
FIRST_OF_TWO = "lora_te1_"
"""How those of the first of two text encoders begin."""

_WORDS = (
    *("down_blocks", "mid_block", "up_blocks", "attentions", "resnets", "downsamplers"),
    *("upsamplers", "transformer_blocks", "attn1", "attn2", "to_q", "to_k", "to_v", "to_out"),
    *("ff", "net", "proj", "proj_in", "proj_out", "conv", "conv1", "conv2", "conv_shortcut"),
    *("time_emb_proj", "conv_in", "conv_out", "time_embedding", "add_embedding"),
    *("linear_1", "linear_2", "cond_proj"),
    *("text_model", "encoder", "layers", "self_attn", "q_proj", "k_proj", "v_proj", "out_proj"),
    *("mlp", "fc1", "fc2", "text_projection"),
)
_WORD = "|".join(sorted(_WORDS, key=len, reverse=True))
_PIECE = re.compile(rf"({_WORD}|\d+)(?:_(?!$)|$)")
_UNDERSCORED = re.compile(rf"(?:{_PIECE.pattern})+")
_DOTTED = re.compile(rf"(?:{_WORD})(?:\.(?:{_WORD}|\d+))*")

_SGM_BLOCK = re.compile(r"(input|output)_blocks_(\d+)_(\d)_(\w+)")
_SGM_MIDDLE = re.compile(r"middle_block_(\d)_(\w+)")
_SGM_RESNET = {
    "in_layers_2": "conv1",
    "emb_layers_1": "time_emb_proj",
    "out_layers_3": "conv2",
    "skip_connection": "conv_shortcut",
}
_SGM_OTHERS = {
    "input_blocks_0_0": "conv_in",
    "out_2": "conv_out",
    "time_embed_0": "time_embedding.linear_1",
    "time_embed_2": "time_embedding.linear_2",
    "label_emb_0_0": "add_embedding.linear_1",
    "label_emb_0_2": "add_embedding.linear_2",
}
_ADDED = {"add_embedding.linear_1": "label_emb_0_0", "add_embedding.linear_2": "label_emb_0_2"}
"""What only SDXL has, and every reader finds by SGM's name alone."""
_LAYERS = 3
"""Places of a block in SGM's count: two layers and a downsampler, or three layers."""


def is_module(name: str) -> bool:
    """Tell whether a name with dots is made of the words that Stable Diffusion's modules have."""
    return _DOTTED.fullmatch(name) is not None


def as_filed(name: str) -> str:
    """Return a module's name as files have it: transformers 5 lost the first word of some."""
    return f"text_model.{name}" if name.startswith("encoder.") else name


def kohya_name(module: Module, two_encoders: bool) -> str:
    """Return kohya's name of a module, such as `lora_unet_mid_block_resnets_0_conv1`."""
    first = module.component == "text_encoder" and two_encoders
    prefix = FIRST_OF_TWO if first else KOHYA[module.component]
    return prefix + _ADDED.get(module.name, module.name.replace(".", "_"))


def from_kohya(text: str) -> Module | None:
    """Return the module that kohya's name names, with diffusers' words or SGM's; None if none."""
    for prefix, component in _prefixes().items():
        if text.startswith(prefix):
            rest = text.removeprefix(prefix)
            name = _dotted(rest) or (_from_sgm(rest) if component == "unet" else None)
            return Module(component, name) if name else None
    return None


def _prefixes() -> dict[str, Component]:
    return {prefix: name for name, prefix in KOHYA.items()} | {FIRST_OF_TWO: "text_encoder"}


def _dotted(name: str) -> str | None:
    if not _UNDERSCORED.fullmatch(name):
        return None
    return ".".join(piece[1] for piece in _PIECE.finditer(name))


def _from_sgm(name: str) -> str | None:
    if name in _SGM_OTHERS:
        return _SGM_OTHERS[name]
    if middle := _SGM_MIDDLE.fullmatch(name):
        return _in_middle(int(middle[1]), middle[2])
    if block := _SGM_BLOCK.fullmatch(name):
        return _in_block(block[1], int(block[2]), int(block[3]), block[4])
    return None


def _in_middle(place: int, rest: str) -> str | None:
    return _layer("mid_block", "attentions" if place == 1 else "resnets", place // 2, rest)


def _in_block(side: str, number: int, place: int, rest: str) -> str | None:
    if side == "input" and rest == "op":
        return f"down_blocks.{(number - 1) // _LAYERS}.downsamplers.0.conv"
    if side == "output" and rest == "conv":
        return f"up_blocks.{number // _LAYERS}.upsamplers.0.conv"
    kind = "attentions" if place else "resnets"
    if side == "input":
        block, layer = divmod(number - 1, _LAYERS)
        return _layer(f"down_blocks.{block}", kind, layer, rest)
    block, layer = divmod(number, _LAYERS)
    return _layer(f"up_blocks.{block}", kind, layer, rest)


def _layer(block: str, kind: str, layer: int, rest: str) -> str | None:
    inner = _SGM_RESNET.get(rest) if kind == "resnets" else _dotted(rest)
    return f"{block}.{kind}.{layer}.{inner}" if inner else None
