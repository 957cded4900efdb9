"""Train what the shapes world ships: its tiny Stable Diffusion, its CLIP, its attribute judge.

Four networks, each a function from a pool of scenes to trained weights. The two judges see rendered
scenes only; neither shares a weight with the generator.

Legend: B batch, N pool, H = W = 32 pixels, C x h x w = 8 x 8 x 8 latents, L = 24 tokens.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.training_utils import EMAModel, compute_snr
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

from lcm_lora.params.score import Look
from lcm_lora.shapes import architecture
from lcm_lora.shapes.judge import AttributeJudge, Attributes
from lcm_lora.shapes.looks import render_looks
from lcm_lora.shapes.scenes import PIXELS, Scene, draw_scenes

TRAIN_SEED = 20_260
"""Names the scenes that every network of the shapes world is trained on."""

CLIP_BATCH = 128
"""Captions that each picture's own must be told from."""

Report = Callable[[str, int, int, float], None]
"""Called with (network, step, steps, loss) as training goes on."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Scenes in memory: `pictures` uint8 [N, 3, H, W], `tokens` int64 [N, L], attributes."""

    scenes: list[Scene]
    pictures: Tensor
    tokens: Tensor
    attributes: Attributes

    def __len__(self) -> int:
        return len(self.scenes)


def draw_pool(seed: int, count: int, words: CLIPTokenizer, looks: Collection[Look] = ()) -> Pool:
    """Return the first `count` scenes of the sequence that `seed` names, painted in looks."""
    scenes = draw_scenes(seed, range(count))
    pictures = torch.from_numpy(render_looks(scenes, PIXELS, looks)).permute(0, 3, 1, 2)
    return Pool(
        scenes,
        pictures.contiguous(),
        tokenise(words, [s.caption for s in scenes]),
        Attributes.of(scenes),
    )


def tokenise(words: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Return token ids int64 [B, L], padded and cut to the tokenizer's own length."""
    ids = words(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
    return torch.as_tensor(ids)


def scale(pictures: Tensor) -> Tensor:
    """Return uint8 pictures as float in -1..1, channels last in memory."""
    return (pictures.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def train_autoencoder(pool: Pool, steps: int, report: Report, seed: int = 1) -> AutoencoderKL:
    """Train the autoencoder on L1 plus L2 with almost no pull towards the prior.

    Small latents that must keep the edge of a two-pixel ring have no room for regularity; the scale
    factor at the end gives the denoiser the unit variance that it expects.
    """
    torch.manual_seed(seed)
    vae = architecture.autoencoder().to(memory_format=torch.channels_last)

    def loss(indices: Tensor) -> Tensor:
        pictures = scale(pool.pictures[indices])
        posterior = vae.encode(pictures).latent_dist
        error = vae.decode(posterior.sample()).sample.float() - pictures
        return error.abs().mean() + 4 * error.pow(2).mean() + 1e-7 * posterior.kl().mean()

    batches = uniform_batches(len(pool), 32, steps, seed)
    fit("autoencoder", vae.parameters(), loss, batches, steps, 1.5e-3, report)
    latents = encode(vae, pool.pictures[:4096])
    vae.register_to_config(scaling_factor=round(1 / float(latents.std()), 5))
    return vae.eval().requires_grad_(False)


@torch.inference_mode()
def encode(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    """Return posterior means float32 [N, C, h, w], not yet scaled, of uint8 pictures."""
    return torch.cat([vae.encode(scale(chunk)).latent_dist.mean for chunk in pictures.split(256)])


def train_reader(
    pool: Pool, words: CLIPTokenizer, steps: int, report: Report, seed: int = 2
) -> CLIPTextModel:
    """Teach the text encoder to read: tell every attribute from the caption's last token.

    It spares the denoiser from learning language through cross-attention alone, which would take
    most of its training.
    """
    torch.manual_seed(seed)
    text = architecture.text_encoder(words)
    width = text.config.hidden_size
    figures = nn.Linear(width, pool.attributes.figures[0].numel())
    ground = nn.Linear(width, int(pool.attributes.ground.max()) + 1)

    def loss(indices: Tensor) -> Tensor:
        read = text(pool.tokens[indices]).pooler_output.float()
        truth = pool.attributes.figures[indices].flatten(1).float()
        found = F.binary_cross_entropy_with_logits(figures(read), truth, reduction="sum")
        return found / len(indices) + F.cross_entropy(ground(read), pool.attributes.ground[indices])

    parameters = itertools.chain(text.parameters(), figures.parameters(), ground.parameters())
    fit(
        "reader",
        parameters,
        loss,
        uniform_batches(len(pool), 128, steps, seed),
        steps,
        1e-3,
        report,
    )
    return text


def train_denoiser(
    denoiser: UNet2DConditionModel,
    text: CLIPTextModel,
    pool: Pool,
    latents: Tensor,
    words: CLIPTokenizer,
    steps: int,
    peak: float,
    report: Report,
    snapshot: Callable[[], None],
    seed: int = 3,
) -> None:
    """Train a denoiser and its text encoder together in place, with min-SNR weights.

    At the end both hold the average of their weights over the last few thousand steps.

    Args:
        denoiser: Fresh, or to be trained further.
        text: A text encoder that can read.
        pool: Scenes; only their tokens are read here.
        latents: float [N, C, h, w], scaled.
        words: Gives the tokens of the empty caption, which replaces one caption in ten.
        steps: Steps of batch 64.
        peak: The highest learning rate.
        report: Progress.
        snapshot: Called every thousand steps while both hold averaged weights.
        seed: Of weights and batches.

    Source: Hang et al. 2023 (min-SNR, gamma 5); Ho and Salimans 2022 (caption dropout).
    """
    torch.manual_seed(seed)
    parts = nn.ModuleList([denoiser, text])
    average = EMAModel(parts.parameters(), decay=0.9995, use_ema_warmup=True, power=0.75)
    loss = denoising_loss(denoiser, text, pool, latents, words)

    def after(step: int) -> None:
        average.step(parts.parameters())
        if step % 1000 == 0 and step < steps:
            average.store(parts.parameters())
            average.copy_to(parts.parameters())
            snapshot()
            average.restore(parts.parameters())

    batches = crowded_batches(pool.scenes, 64, steps, seed)
    fit("denoiser", parts.parameters(), loss, batches, steps, peak, report, after)
    average.copy_to(parts.parameters())
    snapshot()


def denoising_loss(
    denoiser: UNet2DConditionModel,
    text: CLIPTextModel,
    pool: Pool,
    latents: Tensor,
    words: CLIPTokenizer,
) -> Callable[[Tensor], Tensor]:
    """Return the loss of `train_denoiser` as a function of a batch's indices."""
    denoiser.to(memory_format=torch.channels_last)
    schedule = architecture.scheduler()
    empty = tokenise(words, [""])

    def loss(indices: Tensor) -> Tensor:
        clean = latents[indices]
        tokens = torch.where(torch.rand(len(indices), 1) < 0.1, empty, pool.tokens[indices])
        timesteps = torch.randint(0, 1000, (len(indices),))
        noise = torch.randn_like(clean)
        noised = schedule.add_noise(clean, noise, timesteps)
        noised = noised.contiguous(memory_format=torch.channels_last)
        guess = denoiser(noised, timesteps, text(tokens).last_hidden_state).sample.float()
        weight = compute_snr(schedule, timesteps).clamp(max=5) / compute_snr(schedule, timesteps)
        return (weight * (guess - noise).pow(2).mean((1, 2, 3))).mean()

    return loss


def train_clip(
    pool: Pool, words: CLIPTokenizer, steps: int, report: Report, seed: int = 4
) -> CLIPModel:
    """Train the scoring CLIP to tell the captions of look-alike scenes apart.

    Source: Radford et al. 2021, with each batch drawn from scenes of one ground and one count, so
    that only shapes, colours and sizes can tell the right caption from the wrong ones.
    """
    torch.manual_seed(seed)
    model = architecture.clip(words)

    def loss(indices: Tensor) -> Tensor:
        pictures = disturbed(scale(pool.pictures[indices]))
        tokens = pool.tokens[indices]
        output = model(input_ids=tokens, pixel_values=pictures)
        return contrast(output.logits_per_image.float())

    batches = _alike_batches(pool.scenes, CLIP_BATCH, steps, seed)
    fit("clip", model.parameters(), loss, batches, steps, 1e-3, report)
    return model.eval().requires_grad_(False)


def contrast(logits: Tensor) -> Tensor:
    """Return the symmetric cross-entropy of logits [B, B] whose diagonal is right."""
    right = torch.arange(len(logits))
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def train_judge(pool: Pool, steps: int, report: Report, seed: int = 5) -> AttributeJudge:
    """Train the attribute judge on scenes with a little blur and noise."""
    torch.manual_seed(seed)
    judge = AttributeJudge().to(memory_format=torch.channels_last)

    def loss(indices: Tensor) -> Tensor:
        truth = Attributes(pool.attributes.figures[indices], pool.attributes.ground[indices])
        return judge.loss(disturbed(scale(pool.pictures[indices])), truth)

    batches = uniform_batches(len(pool), 96, steps, seed)
    fit("judge", judge.parameters(), loss, batches, steps, 3e-3, report)
    return judge.eval().requires_grad_(False)


def disturbed(pictures: Tensor) -> Tensor:
    """Add slight noise and, to half of the pictures, slight blur, as any decoder does."""
    kernel = torch.tensor([0.15, 0.7, 0.15])
    weight = (kernel[:, None] * kernel[None]).expand(3, 1, 3, 3)
    blurred = F.conv2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), weight, groups=3)
    chosen = torch.where(torch.rand(len(pictures), 1, 1, 1) < 0.5, blurred, pictures)
    return chosen + 0.06 * torch.rand(len(pictures), 1, 1, 1) * torch.randn_like(pictures)


def uniform_batches(count: int, batch: int, steps: int, seed: int) -> Iterator[Tensor]:
    """Yield the indices of batches, each index below `count` as likely as any."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        yield torch.randint(0, count, (batch,), generator=generator)


def crowded_batches(scenes: list[Scene], batch: int, steps: int, seed: int) -> Iterator[Tensor]:
    """Draw each scene in proportion to its figures: crowded scenes are the hard ones to paint."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.tensor([float(len(scene.figures)) for scene in scenes])
    for _ in range(steps):
        yield torch.multinomial(weights, batch, replacement=True, generator=generator)


def _alike_batches(scenes: list[Scene], batch: int, steps: int, seed: int) -> Iterator[Tensor]:
    generator = np.random.default_rng(seed)
    groups: dict[tuple[str, int], list[int]] = {}
    for i, scene in enumerate(scenes):
        groups.setdefault((scene.ground, len(scene.figures)), []).append(i)
    members = [np.array(group) for group in groups.values()]
    for _ in range(steps):
        group = members[int(generator.integers(len(members)))]
        yield torch.from_numpy(generator.choice(group, batch, replace=False))


def fit(
    name: str,
    parameters: Iterable[nn.Parameter],
    loss: Callable[[Tensor], Tensor],
    batches: Iterable[Tensor],
    steps: int,
    peak: float,
    report: Report,
    after: Callable[[int], None] = lambda step: None,
) -> None:
    """Minimise `loss` over `batches`: AdamW, 3 % warm-up, cosine to zero, clipped at norm 1."""
    trained = list(parameters)
    optimiser = torch.optim.AdamW(trained, lr=peak, betas=(0.9, 0.99), weight_decay=1e-3)
    warm_up = max(1, round(0.03 * steps))

    def rate(step: int) -> float:
        done = (step - warm_up) / max(1, steps - warm_up)
        return (step + 1) / warm_up if step < warm_up else 0.5 * (1 + math.cos(math.pi * done))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    for step, indices in enumerate(batches, 1):
        with torch.autocast("cpu", torch.bfloat16):
            value = loss(indices)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        schedule.step()
        after(step)
        report(name, step, steps, float(value.detach()))
