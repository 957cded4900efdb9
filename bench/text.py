"""What embedding captions on the fly costs, as a share of a training step's arithmetic.

Counted, not timed, on networks of the published configurations without weights: text encoders once,
the denoiser once forward and backward as student, once as target and twice as teacher.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

FORWARDS = 1 + 1 + 1 + 2
"""Student, its backward pass (frozen weights get no gradient), target, and the teacher's two."""

CLIP_L = CLIPTextConfig(
    hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
)
CLIP_G = CLIPTextConfig(
    hidden_size=1280,
    intermediate_size=5120,
    num_hidden_layers=32,
    num_attention_heads=20,
    projection_dim=1280,
)
SD = {"cross_attention_dim": 768, "attention_head_dim": 8}
SDXL = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


def main() -> None:
    """Print both shares, and what storing embeddings would take instead."""
    for name, config, side, encoders, width in (
        ("SD-1.5, 512 px", SD, 64, [(CLIPTextModel, CLIP_L)], 768),
        (
            "SDXL, 1,024 px",
            SDXL,
            128,
            [(CLIPTextModel, CLIP_L), (CLIPTextModelWithProjection, CLIP_G)],
            2048,
        ),
    ):
        text = sum(text_flops(kind, shape) for kind, shape in encoders)
        step = FORWARDS * unet_flops(config, side)
        stored = 77 * width * 2 + (1280 * 2 if len(encoders) > 1 else 0)
        print(
            f"{name}: text {text / 1e9:.0f} GFLOP of a step's {step / 1e9:.0f}: "
            f"{100 * text / step:.2f} %; stored in half precision it would be "
            f"{stored * 1e6 / 1e9:.0f} GB a million captions"
        )


def text_flops(kind: Any, config: CLIPTextConfig) -> int:
    """Return the arithmetic of embedding one caption."""
    with torch.device("meta"):
        model = kind(config)
        tokens = torch.zeros(1, 77, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        model(tokens)
    return int(counter.get_total_flops())


def unet_flops(config: dict[str, Any], side: int) -> int:
    """Return the arithmetic of one forward pass for one latent."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
        latent, time = torch.zeros(1, 4, side, side), torch.zeros(1)
        told = torch.zeros(1, 77, unet.config.cross_attention_dim)
        added = {"text_embeds": torch.zeros(1, 1280), "time_ids": torch.zeros(1, 6)}
    with FlopCounterMode(display=False) as counter:
        unet(latent, time, told, added_cond_kwargs=added)
    return int(counter.get_total_flops())


if __name__ == "__main__":
    main()
