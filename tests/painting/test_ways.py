"""Every way of painting: diffusers' own pipelines agree, and nothing is left on the base."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, LCMScheduler
from making import CPU, shapes_base
from numpy.typing import NDArray
from PIL import Image
from serving import looked_at
from styles import write_style
from tiny_bases import tiny_pipeline

from lcm_lora.bases import Base, load_base
from lcm_lora.errors import UserError
from lcm_lora.families.family import FamilyName
from lcm_lora.painting.dressed import Wardrobe, wearing
from lcm_lora.painting.paint import noise_of, paint
from lcm_lora.painting.schedulers import scheduler_of
from lcm_lora.painting.start import Start, check_leaves_steps, evaluations
from lcm_lora.painting.subject import Subject, Weighted
from lcm_lora.painting.ways import paint_over, pipeline_of
from lcm_lora.params.base import Base as BaseParams
from lcm_lora.params.generate import Cell

FAMILIES: tuple[FamilyName, ...] = ("sd1", "sdxl")
PROMPT, NEGATIVE = "a small red ring on a navy background", "background"
WEIGHTS = [1.0, 0.8]
ONE, TWO = (Cell(steps=steps, guidance=1.0) for steps in (1, 2))


def picture(side: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    return Image.fromarray(pixels)


def right_half(side: int) -> Image.Image:
    """A mask that covers the right half, with greys that lie on either side of the middle."""
    mask = np.full((side, side), 127, np.uint8)
    mask[:, side // 2 :] = 128
    return Image.fromarray(mask)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base of two families, each with an adapter and a style."""
    folder = tmp_path_factory.mktemp("ways")
    for family in FAMILIES:
        tiny_pipeline(family).save_pretrained(folder / family)
        for seed in (1, 2):
            write_style(folder / f"{family}-{seed}.safetensors", family, seed)
    return folder


@pytest.fixture(scope="module")
def bases(folder: Path) -> dict[FamilyName, Base]:
    """Both, loaded once: that no way leaves anything on them is a law of its own."""
    models = {family: BaseParams(model=str(folder / family)) for family in FAMILIES}
    return {family: load_base(looked_at(folder, model), CPU) for family, model in models.items()}


def files(folder: Path, family: FamilyName) -> list[Path]:
    return [folder / f"{family}-{seed}.safetensors" for seed in (1, 2)]


def subject_of(base: Base, folder: Path, family: FamilyName) -> Subject:
    pairs = zip(files(folder, family), WEIGHTS, strict=True)
    return Subject(base.found, tuple(Weighted(file, file.name, weight) for file, weight in pairs))


def fresh(base: Base) -> Base:
    """Return the base with the published LCM scheduler."""
    base.pipeline.scheduler = scheduler_of("lcm", dict(base.pipeline.scheduler.config))
    return base


@contextlib.contextmanager
def dressed(base: Base, folder: Path, family: FamilyName) -> Iterator[Base]:
    """The base, which wears both adapters, with the published LCM scheduler."""
    with wearing(fresh(base), subject_of(base, folder, family)):
        yield base


def plain(folder: Path, family: FamilyName, kind: str, loras: list[Path], **more: Any) -> Any:
    """Return what one writes with diffusers alone."""
    xl = "XL" if family == "sdxl" else ""
    own = more if xl else {"safety_checker": None, "feature_extractor": None, **more}
    made = getattr(diffusers, f"StableDiffusion{xl}{kind}Pipeline").from_pretrained(
        folder / family, torch_dtype=torch.float32, **own
    )
    made.scheduler = LCMScheduler.from_config(made.scheduler.config)
    made.set_progress_bar_config(disable=True)
    for number, file in enumerate(loras):
        made.load_lora_weights(str(file), adapter_name=f"lora{number}")
    made.set_adapters(["lora0", "lora1"], WEIGHTS)
    return made


def called(pipeline: Any, seed: int = 3, **how: Any) -> NDArray[np.uint8]:
    how = {"prompt": PROMPT, "num_inference_steps": 4} | how
    (image,) = pipeline(**how, generator=[noise_of(seed, 0, 0)]).images
    return np.asarray(image)


@pytest.mark.parametrize("family", FAMILIES)
def test_over_a_picture_as_plain_diffusers(
    family: FamilyName, bases: dict[FamilyName, Base], folder: Path
) -> None:
    """With `load_lora_weights` and diffusers' own classes, pixel for pixel; also under a mask."""
    start, mask = picture(16), right_half(16)
    cell, loras = Cell(steps=4, guidance=2.0), files(folder, family)
    told = {"image": start, "strength": 0.5, "guidance_scale": 2.0, "negative_prompt": NEGATIVE}
    hand = plain(folder, family, "Img2Img", loras)
    expected = called(hand, **told)
    hand.disable_lora()
    bare = called(hand, **told)
    hand.enable_lora()
    xl = "XL" if family == "sdxl" else ""
    hand = getattr(diffusers, f"StableDiffusion{xl}InpaintPipeline").from_pipe(hand)
    hand.set_progress_bar_config(disable=True)
    inside = called(hand, **told, mask_image=mask, height=16, width=16)
    with dressed(bases[family], folder, family) as base:
        over, under = (
            paint_over(base, PROMPT, cell, 3, Start(start, 0.5, m), negative=NEGATIVE)
            for m in (None, mask)
        )
    np.testing.assert_array_equal(over, expected)
    assert not np.array_equal(bare, expected), "the adapters change something"
    np.testing.assert_array_equal(under[:, 8:], inside[:, 8:])
    np.testing.assert_array_equal(under[:, :8], np.asarray(start)[:, :8])
    assert not np.array_equal(inside[:, :8], under[:, :8]), "which the autoencoder alters"


def test_what_a_mask_keeps_is_kept_in_latents_of_any_width(base: Base) -> None:
    """The shapes world has 8 channels, which diffusers would not inpaint: it blends them too."""
    last: list[torch.Tensor] = []

    def after_step(pipeline: Any, step: int, t: Any, told: dict[str, Any]) -> dict[str, Any]:
        last.append(told["latents"])
        return {}

    config = dict(base.unet.config)
    start = Start(picture(32), 1.0, right_half(32))
    made = paint_over(fresh(base), PROMPT, TWO, 3, start, after_step=after_step)
    pixels = torch.from_numpy(np.asarray(start.picture)).permute(2, 0, 1)[None] / 127.5 - 1
    encoded = base.vae.encode(pixels.float()).latent_dist.sample(noise_of(3, 0, 0))
    kept = encoded * base.vae.config.scaling_factor
    assert torch.allclose(last[-1][..., :4], kept[..., :4], atol=1e-5)
    assert not torch.allclose(last[-1][..., 4:], kept[..., 4:], atol=0.1)
    np.testing.assert_array_equal(made[:, :16], np.asarray(start.picture)[:, :16])
    assert dict(base.unet.config) == config


def test_a_negative_prompt_acts_where_guidance_does(
    bases: dict[FamilyName, Base], folder: Path
) -> None:
    start = Start(picture(16), 0.5)
    with dressed(bases["sd1"], folder, "sd1") as base:
        for guidance in (1.0, 2.0):
            cell = Cell(steps=2, guidance=guidance)
            said = [
                (
                    paint(base, [PROMPT], cell, 16, 3, negative=negative).tobytes(),
                    paint_over(base, PROMPT, cell, 3, start, negative=negative).tobytes(),
                )
                for negative in (None, NEGATIVE)
            ]
            for one, other in zip(*said, strict=True):
                assert (one == other) == (guidance == 1)


def test_evaluations_are_those_that_the_network_really_makes(
    bases: dict[FamilyName, Base], folder: Path
) -> None:
    """Rows of all its calls, counted at its door: guidance doubles them, strength leaves some."""
    rows: list[int] = []
    with dressed(bases["sd1"], folder, "sd1") as base:
        hook = base.unet.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
        for steps, strength, guidance in ((2, 0.5, 1.0), (3, 0.7, 2.0), (1, 1.0, 1.5)):
            cell = Cell(steps=steps, guidance=guidance)
            for mask in (None, right_half(16)):
                rows.clear()
                start = Start(picture(16), strength, mask)
                paint_over(base, PROMPT, cell, 3, start)
                assert sum(rows) == evaluations(cell, start)
                assert len(rows) == int(steps * strength)
            rows.clear()
            paint(base, [PROMPT], cell, 16, 3)
            assert sum(rows) == evaluations(cell, None)
        hook.remove()


@pytest.mark.parametrize("steps", [1, 3, 4, 8, 49, 50])
def test_a_strength_that_leaves_no_step_is_refused_with_what_would_leave_one(
    steps: int, base: Base
) -> None:
    """Which of them are left is diffusers' own count, rounding and all."""
    pipeline, cell = pipeline_of(base, "picture"), Cell(steps=steps, guidance=1.0)
    pipeline.scheduler.set_timesteps(steps)
    for percent in range(101):
        start = Start(picture(16), percent / 100)
        _, count = pipeline.get_timesteps(steps, start.strength, "cpu")
        assert start.steps_of(steps) == count
        if count:
            check_leaves_steps(cell, start)
            continue
        with pytest.raises(UserError, match=f"strength {start.strength:g}: ") as error:
            check_leaves_steps(cell, start)
        if percent:
            *_, least, more = map(float, re.findall(r"[\d.]+", str(error.value)))
            check_leaves_steps(cell, Start(start.picture, least))
            check_leaves_steps(Cell(steps=int(more), guidance=1.0), start)


def control_of(base: Base) -> ControlNetModel:
    """A ControlNet of the base's own shape that really controls: its outlets are not zero."""
    torch.manual_seed(0)
    made = ControlNetModel.from_unet(base.unet, conditioning_embedding_out_channels=(4, 8))
    for parameter in made.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


@pytest.mark.parametrize(
    ("family", "precision"), [("sd1", "fp32"), ("sdxl", "fp32"), ("sd1", "bf16")]
)
def test_a_controlnet_leads_and_the_adapter_paints(
    family: FamilyName, precision: Any, bases: dict[FamilyName, Base], folder: Path
) -> None:
    base = bases[family]
    if precision != "fp32":
        base = load_base(base.found, CPU.model_copy(update={"precision": precision}))
    base = fresh(base)
    net = control_of(base).float()
    pipeline = pipeline_of(base, "control", controlnet=net)
    size = {"height": 16, "width": 16, "num_inference_steps": 2, "guidance_scale": 1.5}

    def led(seed: int, scale: float = 0.8) -> NDArray[np.uint8]:
        how = {"image": picture(16, seed), "controlnet_conditioning_scale": scale}
        return called(pipeline, **how, **size)

    bare = led(0)
    with wearing(base, subject_of(base, folder, family)):
        worn, other, unled = led(0), led(1), led(0, scale=0.0)
        again = paint(base, [PROMPT], Cell(steps=2, guidance=1.5), 16, 3)[0]
    assert len({shown.tobytes() for shown in (bare, worn, other, unled)}) == 4
    np.testing.assert_array_equal(unled, again, "what does not lead is as if it were not there")
    np.testing.assert_array_equal(bare, led(0))
    if (family, precision) == ("sd1", "fp32"):
        loras = files(folder, family)
        hand = plain(folder, family, "ControlNet", loras, controlnet=net)
        how = {"image": picture(16), "controlnet_conditioning_scale": 0.8}
        expected = called(hand, **how, **size)
        np.testing.assert_array_equal(worn, expected)


def test_all_ways_leave_the_base_as_it_was(bases: dict[FamilyName, Base], folder: Path) -> None:
    """The same adapter in all of them, in turn, in one process: bit for bit nothing stays."""
    base = fresh(bases["sd1"])
    parts = {name: base.pipeline.components[name] for name in ("unet", "vae", "text_encoder")}
    before = {name: {k: v.clone() for k, v in p.state_dict().items()} for name, p in parts.items()}
    configs = [dict(base.unet.config), dict(base.pipeline.config)]
    bare = paint(base, [PROMPT], TWO, 16, 3)
    control = pipeline_of(base, "control", controlnet=control_of(base))
    with wearing(base, subject_of(base, folder, "sd1")):
        worn = paint(base, [PROMPT], TWO, 16, 3)
        for mask in (None, right_half(16)):
            paint_over(base, PROMPT, TWO, 3, Start(picture(16), 0.5, mask))
        called(control, image=picture(16), height=16, width=16, guidance_scale=1.0)
        paint(base, [PROMPT], Cell(steps=2, guidance=2.0), 16, 3, negative=NEGATIVE)
        np.testing.assert_array_equal(paint(base, [PROMPT], TWO, 16, 3), worn)
    np.testing.assert_array_equal(paint(base, [PROMPT], TWO, 16, 3), bare)
    assert [dict(base.unet.config), dict(base.pipeline.config)] == configs
    for name, part in parts.items():
        now = part.state_dict()
        assert now.keys() == before[name].keys()
        assert all(torch.equal(now[key], value) for key, value in before[name].items())
        assert {tensor.dtype for tensor in now.values()} <= {torch.float32, torch.int64}


def test_a_wardrobe_paints_by_what_is_worn_alone(
    bases: dict[FamilyName, Base], folder: Path
) -> None:
    """Whatever was worn before; weight 0 is not worn, and a file twice is its weights' sum."""
    base = fresh(bases["sd1"])
    first, second = (Weighted(file, file.name) for file in files(folder, "sd1"))

    def of(*worn: tuple[Weighted, float]) -> Subject:
        made = (Weighted(one.file, one.sha256, weight) for one, weight in worn)
        return Subject(base.found, tuple(made))

    def painted(wardrobe: Wardrobe, subject: Subject) -> bytes:
        wardrobe.wear(subject)
        return paint(base, [PROMPT], ONE, 16, 3).tobytes()

    bare = paint(base, [PROMPT], ONE, 16, 3).tobytes()
    wardrobe = Wardrobe(base)
    subjects = [
        of(),
        of((first, 1.0)),
        of((first, 1.0), (second, 0.5)),
        of((first, 0.25)),
        of((second, -1.0)),
    ]
    forwards = [painted(wardrobe, subject) for subject in subjects]
    backwards = [painted(wardrobe, subject) for subject in reversed(subjects)]
    assert forwards == backwards[::-1]
    assert len(set(forwards)) == len(subjects)
    assert forwards[0] == bare
    assert painted(wardrobe, of((first, 0.25), (second, 0.0))) == forwards[3]
    assert painted(wardrobe, of((first, 0.125), (first, 0.125))) == forwards[3]
    base.pipeline.unload_lora_weights()
    with wearing(base, subjects[2]):
        assert paint(base, [PROMPT], ONE, 16, 3).tobytes() == forwards[2]
    assert paint(base, [PROMPT], ONE, 16, 3).tobytes() == bare


def test_parts_are_shared() -> None:
    base = shapes_base()
    made = pipeline_of(base, "picture")
    for name in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        assert made.components[name] is base.pipeline.components[name]
