"""Teach the shipped base the two looks: a style as a LoRA, and a fine-tune of some of its weights.

Both learn from the captions as they are, without a word for the look: whoever puts the style on
wants it in every picture. The text encoder and the autoencoder stay as shipped.

Legend: N pool, C x h x w = 8 x 8 x 8 latents, L = 24 tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from diffusers.training_utils import EMAModel
from peft import LoraConfig
from torch import Tensor

from lcm_lora.adapter import published
from lcm_lora.params.score import Look
from lcm_lora.shapes import recipe
from lcm_lora.shapes.judge import Attributes
from lcm_lora.shapes.looks import render_looks
from lcm_lora.shapes.looks_judge import LOOKS, LooksJudge, Sight
from lcm_lora.shapes.scenes import PIXELS, Scene, draw_scenes

BATCH = 32
RANK = 8
TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2")
CONVOLUTIONS = ("conv1", "conv2")
"""Where the style changes the base."""

FINE_TUNED = re.compile(r"\.attentions\.")
"""The tensors that the fine-tune changes: those of all attention blocks."""

COMBINATIONS: tuple[tuple[Look, ...], ...] = ((), ("ink",), ("dusk",), ("ink", "dusk"))


def train_style(
    pipe: StableDiffusionPipeline, scenes: int, steps: int, peak: float, report: recipe.Report
) -> dict[str, Tensor]:
    """Train a LoRA on the denoiser of `pipe` to draw in ink.

    Args:
        pipe: The base, in fp32; it wears the LoRA afterwards.
        scenes: N.
        steps: So many batches.
        peak: The highest learning rate.
        report: Progress.

    Returns:
        The LoRA in fp16, under kohya's names, which diffusers reads too.
    """
    torch.manual_seed(20)
    pipe.unet.requires_grad_(False)
    pipe.unet.add_adapter(
        LoraConfig(r=RANK, lora_alpha=RANK, target_modules=[*TARGETS, *CONVOLUTIONS])
    )
    _train("style", pipe, "ink", scenes, steps, peak, report)
    return published(pipe.unet, torch.float16)


def train_fine_tune(
    pipe: StableDiffusionPipeline, scenes: int, steps: int, peak: float, report: recipe.Report
) -> dict[str, Tensor]:
    """Train some tensors of the denoiser of `pipe` to paint at dusk; return them in fp16.

    Arguments are those of `train_style`.
    """
    torch.manual_seed(30)
    for name, parameter in pipe.unet.named_parameters():
        parameter.requires_grad_(bool(FINE_TUNED.search(name)))
    _train("fine-tune", pipe, "dusk", scenes, steps, peak, report)
    trained = [(k, v) for k, v in pipe.unet.named_parameters() if v.requires_grad]
    return {name: value.detach().half() for name, value in trained}


def _train(
    name: str,
    pipe: StableDiffusionPipeline,
    look: Look,
    scenes: int,
    steps: int,
    peak: float,
    report: recipe.Report,
) -> None:
    """Train what asks for a gradient on scenes in a look, and leave the average of its steps."""
    pool = recipe.draw_pool(recipe.TRAIN_SEED, scenes, pipe.tokenizer, (look,))
    latents = recipe.encode(pipe.vae, pool.pictures) * pipe.vae.config.scaling_factor
    pipe.text_encoder.requires_grad_(False)
    trained = [p for p in pipe.unet.parameters() if p.requires_grad]
    average = EMAModel(trained, decay=0.999, use_ema_warmup=True, power=0.75)
    loss = recipe.denoising_loss(pipe.unet, pipe.text_encoder, pool, latents, pipe.tokenizer)
    batches = recipe.crowded_batches(pool.scenes, BATCH, steps, 20)
    recipe.fit(
        name, trained, loss, batches, steps, peak, report, lambda step: average.step(trained)
    )
    average.copy_to(trained)


def train_looks_judge(
    vae: AutoencoderKL, scenes: int, steps: tuple[int, int], report: recipe.Report
) -> LooksJudge:
    """Train the judge of looks on rendered scenes, a quarter of them in each combination.

    It learns from them as they are drawn, and then, half and half, as the autoencoder gives them
    back: a line that passes close to a figure smears into it, which a judge of drawn ones alone
    often misreads.

    Args:
        vae: The autoencoder whose pictures will be judged.
        scenes: N.
        steps: Batches of 96 of either part.
        report: Progress.
    """
    torch.manual_seed(40)
    judge = LooksJudge().to(memory_format=torch.channels_last)
    drawn, truth = looked_scenes(draw_scenes(recipe.TRAIN_SEED, range(scenes)))
    _train_judge(judge, drawn, truth, steps[0], 3e-3, report)
    given_back = drawn.clone()
    given_back[: scenes // 2] = round_trip(vae, drawn[: scenes // 2])
    _train_judge(judge, given_back, truth, steps[1], 1.5e-3, report)
    return judge.eval().requires_grad_(False)


def _train_judge(
    judge: LooksJudge,
    pictures: Tensor,
    truth: Sight,
    steps: int,
    peak: float,
    report: recipe.Report,
) -> None:
    def loss(indices: Tensor) -> Tensor:
        seen = recipe.disturbed(recipe.scale(pictures[indices]))
        figures, ground = truth.attributes.figures[indices], truth.attributes.ground[indices]
        return judge.loss(seen, Sight(Attributes(figures, ground), truth.looks[indices]))

    batches = recipe.uniform_batches(len(pictures), 96, steps, 40)
    recipe.fit("looks judge", judge.parameters(), loss, batches, steps, peak, report)


@torch.inference_mode()
def round_trip(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    """Return uint8 pictures [N, 3, H, W] as the autoencoder gives them back."""
    decoded = [
        vae.decode(vae.encode(recipe.scale(chunk)).latent_dist.mean).sample
        for chunk in pictures.split(256)
    ]
    return ((torch.cat(decoded).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def looked_scenes(scenes: Sequence[Scene]) -> tuple[Tensor, Sight]:
    """Return scenes in every combination of looks by turns, uint8 [N, 3, H, W], and what they show.

    The first is in no look, the second in ink, the third at dusk, the fourth in both, and so on.
    """
    every = len(COMBINATIONS)
    pictures = torch.empty(len(scenes), 3, PIXELS, PIXELS, dtype=torch.uint8)
    looks = torch.zeros(len(scenes), len(LOOKS), dtype=torch.bool)
    for i, combination in enumerate(COMBINATIONS):
        rendered = render_looks(scenes[i::every], PIXELS, combination)
        pictures[i::every] = torch.from_numpy(rendered).permute(0, 3, 1, 2)
        looks[i::every] = torch.tensor([look in combination for look in LOOKS])
    return pictures, Sight(Attributes.of(scenes), looks)
