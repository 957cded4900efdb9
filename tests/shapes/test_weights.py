"""What the package ships: small, readable by others, and as good as promised."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur
from transformers import CLIPModel, CLIPTokenizer

from lcm_lora.evaluation.frechet import frechet_distance
from lcm_lora.shapes import architecture, places, recipe
from lcm_lora.shapes.judge import AttributeJudge, Attributes, load_judge
from lcm_lora.shapes.scenes import Scene, draw_scenes, render

WEIGHTS = places.BASE.parent
HELD_OUT = 424_242
"""A seed that no training and no preset uses."""


def pictures_of(scenes: list[Scene]) -> Tensor:
    return recipe.scale(torch.from_numpy(render(scenes, 32)).permute(0, 3, 1, 2))


@pytest.fixture(scope="module")
def judge() -> AttributeJudge:
    return load_judge(places.JUDGES)


@pytest.fixture(scope="module")
def clip() -> CLIPModel:
    return CLIPModel.from_pretrained(str(places.CLIP), dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def words() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(str(places.CLIP))


@torch.inference_mode()
def features(clip: CLIPModel, pictures: Tensor) -> np.ndarray:
    parts = [clip.get_image_features(chunk).pooler_output for chunk in pictures.split(256)]
    found: np.ndarray = torch.cat(parts).numpy()
    return found


def test_everything_shipped_is_safetensors_and_fits_in_29_mb() -> None:
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 29e6
    kinds = {path.suffix for path in files if path.stat().st_size > 100_000}
    assert kinds == {".safetensors"}


def test_nothing_shipped_names_a_place_on_the_machine_that_made_it() -> None:
    for path in WEIGHTS.rglob("config.json"):
        assert "_name_or_path" not in json.loads(path.read_text())


def test_the_judge_knows_held_out_scenes(judge: AttributeJudge) -> None:
    scenes = draw_scenes(HELD_OUT, range(1000))
    right = judge.read(pictures_of(scenes)).agree(Attributes.of(scenes))
    assert float(right.float().mean()) >= 0.98


def test_the_judge_is_not_fooled(judge: AttributeJudge) -> None:
    """A picture of another caption must not pass: each scene is judged by its neighbour's."""
    scenes = draw_scenes(HELD_OUT, range(500))
    wrong = judge.read(pictures_of(scenes)).agree(Attributes.of([*scenes[1:], scenes[0]]))
    assert float(wrong.float().mean()) <= 0.01


def test_the_teacher_paints_what_it_is_told(judge: AttributeJudge) -> None:
    """At 50 guided DDIM steps at least nine pictures in ten hold exactly what was asked for."""
    scenes = draw_scenes(HELD_OUT, range(128))
    pipe = StableDiffusionPipeline.from_pretrained(str(places.BASE), safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(
        pipe.scheduler.config, timestep_spacing="trailing", clip_sample=False
    )
    images = pipe(
        [scene.caption for scene in scenes],
        num_inference_steps=50,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    ).images
    painted = torch.from_numpy((images * 255).round()).permute(0, 3, 1, 2).float() / 127.5 - 1
    right = judge.read(painted).agree(Attributes.of(scenes))
    assert float(right.float().mean()) >= 0.90


def test_the_autoencoder_keeps_every_attribute(judge: AttributeJudge) -> None:
    scenes = draw_scenes(HELD_OUT, range(300))
    vae = StableDiffusionPipeline.from_pretrained(str(places.BASE), safety_checker=None).vae
    with torch.inference_mode():
        latents = vae.encode(pictures_of(scenes)).latent_dist.mean
        decoded = vae.decode(latents).sample.clamp(-1, 1)
    assert float((latents * vae.config.scaling_factor).std()) == pytest.approx(1, abs=0.05)
    right = judge.read(decoded).agree(Attributes.of(scenes))
    assert float(right.float().mean()) >= 0.98


def test_clip_finds_the_caption_of_a_picture(clip: CLIPModel, words: CLIPTokenizer) -> None:
    scenes = draw_scenes(HELD_OUT, range(100))
    tokens = recipe.tokenise(words, [scene.caption for scene in scenes])
    with torch.inference_mode():
        logits = clip(input_ids=tokens, pixel_values=pictures_of(scenes)).logits_per_image
    # Among a hundred, many of which differ in one word.
    assert float((logits.argmax(1) == torch.arange(100)).float().mean()) >= 0.75


def test_clip_is_not_the_text_encoder_of_the_base(clip: CLIPModel) -> None:
    base = StableDiffusionPipeline.from_pretrained(
        str(places.BASE), safety_checker=None
    ).text_encoder
    assert clip.config.text_config.hidden_size != base.config.hidden_size


def blurred(pictures: Tensor, level: int) -> Tensor:
    return gaussian_blur(pictures, [9, 9], [0.8 * level, 0.8 * level]) if level else pictures


def noisy(pictures: Tensor, level: int) -> Tensor:
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))
    return (pictures + 0.08 * level * noise).clamp(-1, 1)


def dropped(pictures: Tensor, level: int) -> Tensor:
    """Show fewer and fewer different pictures, as a generator that lost modes does."""
    return pictures[torch.arange(len(pictures)) % (len(pictures) // 4**level)]


@pytest.mark.parametrize("corrupt", [blurred, noisy, dropped], ids=lambda f: f.__name__)
def test_the_features_order_corruptions(corrupt, clip: CLIPModel) -> None:
    scenes = draw_scenes(HELD_OUT, range(1024))
    reference, pictures = pictures_of(scenes[:512]), pictures_of(scenes[512:])
    real = features(clip, reference)
    distances = [
        frechet_distance(features(clip, corrupt(pictures, level)), real) for level in range(4)
    ]
    assert distances == sorted(distances)
    assert distances[3] > 2 * distances[0]


def test_the_clip_score_falls_with_corruption(clip: CLIPModel, words: CLIPTokenizer) -> None:
    scenes = draw_scenes(HELD_OUT, range(300))
    tokens = recipe.tokenise(words, [scene.caption for scene in scenes])
    with torch.inference_mode():
        text = clip.get_text_features(tokens).pooler_output.numpy()
    for corrupt in (blurred, noisy):
        scores = []
        for level in (0, 2, 4):
            image = features(clip, corrupt(pictures_of(scenes), level))
            cosine = (image * text).sum(1) / np.linalg.norm(image, axis=1)
            scores.append(float((cosine / np.linalg.norm(text, axis=1)).mean()))
        assert scores == sorted(scores, reverse=True)


def test_every_word_of_the_world_is_one_token() -> None:
    captions = [scene.caption for scene in draw_scenes(HELD_OUT, range(300))]
    words = CLIPTokenizer.from_pretrained(str(places.BASE / "tokenizer"))
    for caption in captions:
        pieces = caption.replace(",", " ,").split()
        assert len(words(caption).input_ids) == len(pieces) + 2
    assert words.model_max_length == architecture.TOKENS
    assert words.eos_token_id == len(words) - 1
    # What older tools read says the same.
    assert {path.name for path in Path(places.BASE / "tokenizer").iterdir()} >= {
        "vocab.json",
        "merges.txt",
    }


def test_a_vocabulary_is_learned_the_same_each_time_whatever_the_order() -> None:
    captions = [scene.caption for scene in draw_scenes(HELD_OUT, range(300))]
    first = architecture.tokenizer(captions)
    for order in (captions, captions[::-1]):
        assert architecture.tokenizer(order).get_vocab() == first.get_vocab()
    assert first.tokenize("a small red ring on a navy background") == [
        f"{word}</w>" for word in ("a", "small", "red", "ring", "on", "a", "navy", "background")
    ]


def test_the_recipe_runs_and_gives_a_loadable_pipeline(tmp_path: Path) -> None:
    from lcm_lora.shapes import teacher

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teacher, "POOL", 1000)
        patch.setattr(recipe, "CLIP_BATCH", 16)
        teacher.make_weights(tmp_path, effort=0.0003)
    pipe = StableDiffusionPipeline.from_pretrained(str(tmp_path / "base"), safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    picture = pipe("a small red ring on a navy background", num_inference_steps=1).images[0]
    assert picture.size == (32, 32)
    load_judge(tmp_path / "judges")
    CLIPModel.from_pretrained(str(tmp_path / "judges" / "clip"))
    for file in tmp_path.rglob("tokenizer.json"):
        saved = json.loads(file.read_text())
        assert (saved["truncation"], saved["padding"]) == (None, None)
