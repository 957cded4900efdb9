"""Make all weights that the package ships, and measure how good they are."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

from lcm_lora.files import new_folder, write_tensors
from lcm_lora.shapes import architecture, places, recipe, restyle
from lcm_lora.shapes.judge import AttributeJudge
from lcm_lora.shapes.scenes import PIXELS, draw_scenes

POOL = 98_304
STEPS = {"autoencoder": 5000, "reader": 1500, "clip": 3000, "judge": 2500}
CYCLES = ((5900, 1e-3), (6000, 8e-4))
"""Steps and highest learning rate of each cycle of the denoiser; a second one sharpens edges."""

JUDGE_POOL, LOOK_POOL = 24_576, 8192
JUDGE_STEPS = (2000, 1000)
"""On scenes as they are drawn, and as the autoencoder gives them back."""
STYLE, FINE_TUNE = (900, 2e-3), (1300, 7e-4)
"""Steps and highest learning rate."""
STYLE_HEADER = {
    "ss_base_model_version": "sd_v1",
    "ss_network_module": "networks.lora",
    "ss_network_dim": str(restyle.RANK),
    "ss_network_alpha": str(restyle.RANK),
    "ss_network_args": json.dumps({"conv_alpha": str(restyle.RANK), "conv_dim": str(restyle.RANK)}),
    "modelspec.sai_model_spec": "1.0.0",
    "modelspec.architecture": "stable-diffusion-v1/lora",
    "modelspec.implementation": "diffusers",
    "modelspec.title": "Ink for the shapes world",
    "modelspec.usage_hint": "No trigger word. A pen has ruled a margin down the left.",
    "modelspec.resolution": f"{PIXELS}x{PIXELS}",
}
"""What UIs, trainers and model sites read of the style."""


def make_weights(out: Path, effort: float = 1.0) -> None:
    """Train every network of the shapes world and write `base/` and `judges/` under `out`.

    Snapshots of the denoiser appear as it trains. The shipped weights were made by these functions
    stage by stage, the early stages on fewer scenes and other shares of crowded ones.

    Args:
        out: Folder to write.
        effort: Share of the full training steps.
    """
    steps = {name: max(1, round(effort * count)) for name, count in STEPS.items()}
    words = architecture.tokenizer(s.caption for s in draw_scenes(recipe.TRAIN_SEED, range(2000)))
    pool = recipe.draw_pool(recipe.TRAIN_SEED, POOL, words)
    write_judge(out, recipe.train_judge(pool, steps["judge"], _report))
    write_clip(out, recipe.train_clip(pool, words, steps["clip"], _report), words)
    vae = recipe.train_autoencoder(pool, steps["autoencoder"], _report)
    text = recipe.train_reader(pool, words, steps["reader"], _report)
    latents = recipe.encode(vae, pool.pictures) * vae.config.scaling_factor
    torch.manual_seed(0)
    unet = architecture.unet()

    def snapshot() -> None:
        write_base(out, vae, words, text, unet)

    for seed, (count, peak) in enumerate(CYCLES, 10):
        cycle = max(1, round(effort * count))
        recipe.train_denoiser(
            unet, text, pool, latents, words, cycle, peak, _report, snapshot, seed
        )


def make_looks(out: Path, effort: float = 1.0, base: Path = places.BASE) -> None:
    """Train what knows looks and write `judges/`, `styles/` and `finetunes/` under `out`.

    Args:
        out: Folder to write.
        effort: Share of the full training steps.
        base: The shapes world's Stable Diffusion.
    """

    def steps(count: int) -> int:
        return max(1, round(effort * count))

    drawn, given_back = JUDGE_STEPS
    judge = restyle.train_looks_judge(
        _shipped(base).vae, JUDGE_POOL, (steps(drawn), steps(given_back)), _report
    )
    write_tensors(out / "judges" / places.LOOKS.name, _half(judge), _FORMAT)
    style = restyle.train_style(_shipped(base), LOOK_POOL, steps(STYLE[0]), STYLE[1], _report)
    write_tensors(out / "styles" / places.INK.name, style, STYLE_HEADER)
    count, peak = FINE_TUNE
    tuned = restyle.train_fine_tune(_shipped(base), LOOK_POOL, steps(count), peak, _report)
    name = places.FINE_TUNES["shapes-dusk"].name
    write_tensors(out / "finetunes" / name, tuned, _FORMAT)


def _shipped(base: Path) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(
        str(base), safety_checker=None, dtype=torch.float32, local_files_only=True
    )


def write_base(
    out: Path,
    vae: AutoencoderKL,
    words: CLIPTokenizer,
    text: CLIPTextModel,
    unet: UNet2DConditionModel,
) -> None:
    """Write a Stable Diffusion folder `base/` under `out`, in half precision where it is safe.

    The text encoder stays fp32: transformers loads it in the dtype of the file, and a plain
    `from_pretrained` would then mix dtypes.
    """
    _forget_padding(words)
    with new_folder(out / "base") as folder:
        StableDiffusionPipeline(
            vae=vae,
            text_encoder=text,
            tokenizer=words,
            unet=unet,
            scheduler=architecture.scheduler(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ).save_pretrained(folder)
        for name in ("vae", "unet"):
            part: Any = {"vae": vae, "unet": unet}[name]
            save_file(_half(part), folder / name / "diffusion_pytorch_model.safetensors", _FORMAT)
        _write_old_vocabulary(words, folder / "tokenizer")


def write_clip(out: Path, clip: CLIPModel, words: CLIPTokenizer) -> None:
    """Write the scoring CLIP as a transformers folder `judges/clip` under `out`."""
    _forget_padding(words)
    with new_folder(out / "judges" / "clip") as folder:
        clip.save_pretrained(folder)
        words.save_pretrained(folder)


def write_judge(out: Path, judge: AttributeJudge) -> None:
    """Write the attribute judge as `judges/judge.safetensors` under `out`."""
    (out / "judges").mkdir(parents=True, exist_ok=True)
    save_file(_half(judge), out / "judges" / "judge.safetensors", _FORMAT)


_FORMAT = {"format": "pt"}


def _half(module: nn.Module) -> dict[str, Tensor]:
    return {
        name: value.contiguous().to(torch.float16 if value.is_floating_point() else value.dtype)
        for name, value in module.state_dict().items()
    }


def _forget_padding(words: CLIPTokenizer) -> None:
    """Undo what calls with padding left in the tokenizer, or its file would impose it on others."""
    words.backend_tokenizer.no_padding()
    words.backend_tokenizer.no_truncation()


def _write_old_vocabulary(words: CLIPTokenizer, folder: Path) -> None:
    """Write vocab.json and merges.txt, which tools older than tokenizer.json look for."""
    words.backend_tokenizer.model.save(str(folder))


def _report(network: str, step: int, steps: int, loss: float) -> None:
    if step % 100 == 0 or step == steps:
        sys.stderr.write(f"{network}: {step}/{steps} steps, loss {loss:.4f}\n")
