"""The registered model paints with styles: those of its configuration, and none other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, LCMScheduler
from serving import artifacts_of, drawn, serve, write_project
from styles import write_harm, write_style
from tiny_bases import tiny_pipeline

from lcm_lora import layout
from lcm_lora.adapter_files import WEIGHTS
from lcm_lora.combining.read import read_lora
from lcm_lora.combining.write import Format, write_lora
from lcm_lora.params.base import Base as BaseParams
from lcm_lora.params.file import Params
from tasks.registry import served_model
from tasks.registry.publishing import publish_finetune, publish_style
from tasks.registry.served_model import FewStepPictures
from tasks.tracking.tracker import Tracker

PROMPT = "a small red ring on a navy background"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, bases: Path) -> Path:
    """A project with an adapter, and styles `ink.safetensors` and `grain/`; one tells texts too."""
    root = tmp_path_factory.mktemp("styles")
    write_project(root, tiny_pipeline("sd1"), BaseParams(model=str(bases / "sd1")))
    shutil.copy(bases / "sd1.safetensors", root / "ink.safetensors")
    write_style(root / "grain" / WEIGHTS, "sd1", seed=2, texts=True)
    return root


@pytest.fixture(scope="module")
def styles(project: Path) -> dict[str, str]:
    return {"ink": str(project / "ink.safetensors"), "grain": str(project / "grain")}


@pytest.fixture(scope="module")
def model(project: Path, styles: dict[str, str]) -> FewStepPictures:
    return serve(artifacts_of(project), styles=styles)


@pytest.fixture(scope="module")
def by_hand(project: Path, bases: Path) -> Any:
    """Diffusers' own pipeline with all three adapters."""
    pipe = DiffusionPipeline.from_pretrained(bases / "sd1", torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)
    files = {
        "adapter": project / layout.ADAPTER / WEIGHTS,
        "ink": project / "ink.safetensors",
        "grain": project / "grain" / WEIGHTS,
    }
    for name, file in files.items():
        pipe.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name=name)
    return pipe


@pytest.fixture(autouse=True)
def _nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LCM_LORA_BASE", "LCM_LORA_VAE", "LCM_LORA_STYLES"):
        monkeypatch.delenv(name, raising=False)


# --- the pictures ---


@pytest.mark.parametrize(
    ("asked", "weights"),
    [
        ({"styles": "grain:0.3, ink:-0.8"}, {"adapter": 1.0, "ink": -0.8, "grain": 0.3}),
        ({"styles": "grain", "acceleration": 0.5}, {"adapter": 0.5, "grain": 1.0}),
        (
            {"styles": "ink", "guidance_scale": 2.0, "negative_prompt": "a ring"},
            {"adapter": 1.0, "ink": 1.0},
        ),
    ],
)
def test_a_mix_is_painted_as_diffusers_paints_it_by_hand(
    model: FewStepPictures, by_hand: Any, asked: dict[str, Any], weights: dict[str, float]
) -> None:
    by_hand.set_adapters(list(weights), list(weights.values()))
    expected = by_hand(
        PROMPT,
        negative_prompt=asked.get("negative_prompt"),
        guidance_scale=asked.get("guidance_scale", 1.0),
        num_inference_steps=2,
        generator=torch.Generator("cpu").manual_seed(5),
    ).images[0]
    (picture,) = drawn(model, [PROMPT], num_inference_steps=2, seed=5, **asked)
    assert np.array_equal(picture, np.asarray(expected))


def test_without_styles_it_paints_as_if_there_were_none_whatever_was_asked_before(
    model: FewStepPictures, project: Path
) -> None:
    (plain,) = drawn(serve(artifacts_of(project)), [PROMPT], num_inference_steps=1)
    wishes: list[dict[str, object]] = [{"styles": "ink:2"}, {"styles": "grain"}, {}]
    wishes += [{"acceleration": 0.0}, {"styles": "ink:0"}, {"styles": " "}]

    def draw(wish: dict[str, object]) -> bytes:
        (picture,) = drawn(model, [PROMPT], num_inference_steps=1, **wish)
        return picture.tobytes()

    pictures = [draw(wish) for wish in wishes]
    assert [draw(wish) for wish in reversed(wishes)] == pictures[::-1]
    unstyled = [number for number, picture in enumerate(pictures) if picture == plain.tobytes()]
    assert unstyled == [2, 4, 5]
    assert len(set(pictures)) == 4


def test_a_mix_is_the_same_in_whatever_order_it_is_named(model: FewStepPictures) -> None:
    (one,) = drawn(model, [PROMPT], styles="ink:0.7,grain:0.4")
    (two,) = drawn(model, [PROMPT], styles=" grain : 0.4 , ink:.7, ")
    assert np.array_equal(one, two)


# --- what may be asked ---


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"styles": "wash:0.5"}, "'wash' is not allowed here; choose of ink, grain"),
        ({"styles": "/etc/ink.safetensors"}, "'/etc/ink.safetensors' is not allowed here"),
        ({"styles": "models:/ink@prod"}, "'models' is not allowed here"),
        ({"styles": ":1"}, "'' is not allowed here"),
        ({"styles": "ink:nan"}, "style ink is 'nan'; take a number from -2 to 2"),
        ({"styles": "ink:inf"}, "style ink is 'inf'"),
        ({"styles": "ink:2.01"}, "style ink is '2.01'"),
        ({"styles": "ink:"}, "style ink is ''"),
        ({"styles": "ink:1:1"}, "style ink is '1:1'"),
        ({"styles": "ink, ink:0.5"}, "ink is named twice"),
        ({"acceleration": float("nan")}, "acceleration is 'nan'"),
        ({"acceleration": -3.0}, "acceleration is '-3.0'; take a number from -2 to 2"),
        ({"guidance_scale": float("inf")}, "guidance_scale is 'inf'; take a number from 0 to 100"),
        ({"negative_prompt": "a ring"}, "negative_prompt acts only where guidance_scale is above"),
        ({"width": 17}, "width is 17; take a multiple of 2, or 0 for 16"),
        ({"height": -2}, "height is -2; take a multiple of 2, or 0 for 16"),
        ({"width": 1 << 40}, "pixels: this service paints at most 256 a picture"),
        ({"width": 16, "height": 18}, "16 x 18 pixels: this service paints at most 256"),
    ],
)
def test_what_there_is_not_is_refused_in_one_line(
    model: FewStepPictures, asked: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        drawn(model, [PROMPT], **asked)
    assert "\n" not in str(caught.value)


def test_a_model_that_was_told_of_no_styles_says_so() -> None:
    limits = served_model._Limits(prompts=1, pixels=256, side=16, unit=2, batch=1)
    with pytest.raises(ValueError, match="'ink' is not allowed here; this model was loaded with"):
        served_model._wish({"styles": "ink"}, [], limits)


def test_a_picture_has_the_size_that_is_asked_for(model: FewStepPictures) -> None:
    (wide,) = drawn(model, [PROMPT], num_inference_steps=1, width=32, height=8)
    assert wide.shape == (8, 32, 3)
    (own,) = drawn(model, [PROMPT], num_inference_steps=1)
    assert own.shape == (16, 16, 3)


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        (["a ring"] * 17, "17 prompts in one request; this service takes 16"),
        (["a ring", "a " * 1001], "prompt 2 of 2 has more than 2000 characters"),
        (["a ring", " "], "prompt 2 of 2 is empty"),
    ],
)
def test_a_request_has_its_limits(model: FewStepPictures, prompts: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        drawn(model, prompts)


def test_pictures_painted_together_are_those_painted_alone(
    project: Path, styles: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LCM_LORA_BATCH", "2")
    monkeypatch.setenv("LCM_LORA_MOST_PROMPTS", "3")
    monkeypatch.setenv("LCM_LORA_MOST_PIXELS", "512")
    service = serve(artifacts_of(project), styles=styles)
    prompts = [PROMPT, "a ring", "a large green circle on a black background"]
    wish = {"guidance_scale": 1.5, "negative_prompt": "a ring", "styles": "ink", "width": 32}
    together = drawn(service, prompts, **wish)
    monkeypatch.undo()
    for prompt, picture in zip(prompts, together, strict=True):
        (same,) = drawn(service, [prompt], **wish)
        assert picture.shape == (16, 32, 3)
        assert np.abs(picture.astype(int) - same).max() <= 1  # the last bits know the batch
    with pytest.raises(ValueError, match="4 prompts in one request; this service takes 3"):
        drawn(service, ["a ring"] * 4)


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5"])
def test_a_limit_that_is_none_is_said_when_loading(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LCM_LORA_MOST_PROMPTS", text)
    with pytest.raises(ValueError, match=f"LCM_LORA_MOST_PROMPTS: '{text}' is no whole number"):
        served_model._whole("LCM_LORA_MOST_PROMPTS", 16)


# --- what may be configured ---


def test_the_environment_names_styles_where_the_configuration_does_not(
    project: Path, styles: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LCM_LORA_STYLES", json.dumps({"ink": styles["ink"]}))
    assert served_model._styles({}, tmp_path).keys() == {"ink"}
    assert served_model._styles({"styles": {}}, tmp_path) == {}
    monkeypatch.setenv("LCM_LORA_STYLES", "{ink: here}")
    with pytest.raises(ValueError, match=r"^LCM_LORA_STYLES: is no JSON; write "):
        serve(artifacts_of(project))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("gone", "no such file or folder"),
        ("several", "holds 2 safetensors files and no pytorch_lora_weights.safetensors; name the"),
        ("peft", "is PEFT's, which pipelines do not load; convert it by `lcm-lora combine`"),
        ("nan", "holds NaN or infinity"),
        ("alphas that differ", "alphas differ by module, .*`lcm-lora combine OUT harm.safeten"),
        ("no lora", "holds no LoRA"),
        ("empty", "holds no LoRA"),
        ("cut short", "no safetensors file"),
        ("a pickle's content", "no safetensors file"),
        ("a pickle's name", "pickles never"),
        ("dora", "does not fit sd1"),
        ("other family", "does not fit sd1"),
    ],
)
def test_what_is_no_style_of_the_family_is_refused_by_name_when_loading(
    harm: str, said: str, project: Path, bases: Path, tmp_path: Path
) -> None:
    file = write_harm(harm, tmp_path, bases / "sd1.safetensors", bases / "sdxl.safetensors")
    with pytest.raises((ValueError, FileNotFoundError), match=f"^style odd: .*{said}") as caught:
        serve(artifacts_of(project), styles={"odd": str(file)})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("styles", [["ink"], {"ink": None}, {"Ink": "a"}, {"": "a"}, {"a.b": "a"}])
def test_a_configuration_that_names_nothing_is_refused(project: Path, styles: object) -> None:
    with pytest.raises(ValueError, match=r"^styles, of model_config or LCM_LORA_STYLES: "):
        serve(artifacts_of(project), styles=styles)


def test_a_folder_with_one_file_is_that_file(bases: Path, tmp_path: Path) -> None:
    shutil.copy(bases / "sd1.safetensors", tmp_path / "ink.safetensors")
    (found,) = served_model._styles({"styles": {"ink": str(tmp_path)}}, tmp_path).values()
    assert found.file == tmp_path / "ink.safetensors"


def test_what_combine_writes_in_any_format_and_for_a_part_of_the_texts_paints_the_same(
    project: Path, tmp_path: Path
) -> None:
    whole = read_lora(project / "grain")
    part = {m: f for m, f in whole.items() if m.component == "unet" or ".layers.0." in m.name}
    assert {module.component for module in part} == {"unet", "text_encoder"}
    formats: tuple[Format, ...] = ("kohya", "diffusers")
    files = {format: str(tmp_path / f"{format}.safetensors") for format in formats}
    for format, file in files.items():
        write_lora(part, Path(file), format, {})
    model = serve(artifacts_of(project), styles=files)
    kohya, diffusers = (
        drawn(model, [PROMPT], styles=name, num_inference_steps=1) for name in files
    )
    assert np.abs(kohya[0].astype(int) - diffusers[0]).max() <= 1


def test_combining_mends_alphas_that_differ(project: Path, bases: Path, tmp_path: Path) -> None:
    odd = write_harm("alphas that differ", tmp_path, bases / "sd1.safetensors", bases)
    mended = tmp_path / "mended.safetensors"
    write_lora(read_lora(odd), mended, "kohya", {})
    assert served_model._styles({"styles": {"ink": str(mended)}}, tmp_path).keys() == {"ink"}


# --- the registry ---


def test_the_served_model_takes_a_style_by_its_alias(
    tracker: Tracker, params: Params, project: Path, bases: Path
) -> None:
    published = publish_style(tracker, params, "ink", bases / "sd1.safetensors")
    artifacts, file = artifacts_of(project), str(bases / "sd1.safetensors")
    pinned = f"models:/{published.model}/{published.version}"
    named: Any = {"ink": file, "alias": published.name, "pinned": pinned}
    model = serve(artifacts, styles=named)
    pictures = [drawn(model, ["a ring"], styles=name, num_inference_steps=1) for name in named]
    assert len({picture.tobytes() for (picture,) in pictures}) == 1
    for none in ("models:/none@style-x", "models:/none/1", "models:/none"):
        with pytest.raises(FileNotFoundError, match=rf"^style ink: {none}: not to be had \(Ml"):
            serve(artifacts, styles={"ink": none})
    finetune = publish_finetune(tracker, params, "dusk", str(bases / "dusk")).name
    with pytest.raises(ValueError, match=rf"^style ink: {finetune}: is no style; "):
        serve(artifacts, styles={"ink": finetune})
    tracker.client.set_model_version_tag(published.model, published.version, "sha256", "0")
    with pytest.raises(ValueError, match=r"^style ink: .*: not as it was published"):
        serve(artifacts, styles={"ink": pinned})
