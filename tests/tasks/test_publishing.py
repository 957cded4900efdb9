"""Styles and fine-tunes are published once for each content, and only what fits the base."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from serving import looked_at
from styles import write_harm

from flows import publish as command
from lcm_lora.errors import UserError
from lcm_lora.files import sha256
from lcm_lora.params.base import Base
from lcm_lora.params.file import Params
from tasks.registry.publishing import Published, publish_finetune, publish_style
from tasks.tracking.tracker import Tracker

PRESET = Path(__file__).parents[2] / "lcm_lora" / "presets" / "shapes.yaml"


def aliases(tracker: Tracker, params: Params) -> dict[str, str]:
    found = tracker.client.get_registered_model(f"{params.registry.name}-modules").aliases
    return {alias: str(version) for alias, version in found.items()}


def test_an_alias_means_the_content_that_was_published_last(
    tracker: Tracker, params: Params, bases: Path
) -> None:
    one, two = (bases / "sd1.safetensors", bases / "other.safetensors")
    made = [publish_style(tracker, params, "ink", file) for file in (one, one, two)]
    assert [(p.version, p.is_new) for p in made] == [("1", True), ("1", False), ("2", True)]
    assert aliases(tracker, params) == {"style-ink": "2"}
    other = publish_style(tracker, params, "grain", one)
    assert (other.version, other.is_new) == ("1", False)
    back = publish_style(tracker, params, "ink", one)
    assert (back.version, back.is_new) == ("1", False)
    assert aliases(tracker, params) == {"style-ink": "1", "style-grain": "1"}
    tags = tracker.client.get_model_version(made[0].model, "1").tags
    assert tags == {"kind": "style", "family": "sd1", "sha256": sha256(one)}
    assert made[0].name == f"models:/{params.registry.name}-modules@style-ink"


def test_a_finetune_is_a_reference_with_what_is_small(
    tracker: Tracker, params: Params, bases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = publish_finetune(tracker, params, "dusk", str(bases / "dusk"))
    again = publish_finetune(tracker, params, "dusk", str(bases / "dusk"))
    assert (first.is_new, again.is_new, first.version) == (True, False, again.version)
    assert aliases(tracker, params) == {"finetune-dusk": "1"}
    found = looked_at(tracker.root, Base(model=str(bases / "dusk")))
    tags = tracker.client.get_model_version(first.model, "1").tags
    assert tags["sha256"] == found.sha256
    assert tags["base_model"] == str(bases / "dusk")
    monkeypatch.setattr("tasks.registry.carried._LARGEST", 1)
    elsewhere = Path(shutil.copytree(bases / "dusk", tracker.root / "elsewhere"))
    moved = publish_finetune(tracker, params, "dusk", str(elsewhere))
    assert moved.is_new  # the same content, but a reference to another place
    files = {file.path for file in tracker.client.list_artifacts(run_of(tracker, moved), "module")}
    assert files == {"module/base.json"}


def run_of(tracker: Tracker, published: Published) -> str:
    version = tracker.client.get_model_version(published.model, published.version)
    return str(version.run_id)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("gone", "no such file"),
        ("nan", "NaN"),
        ("no lora", "no LoRA"),
        ("empty", "holds no LoRA"),
        ("a pickle's name", "pickled weights are refused"),
        ("a pickle's content", "no safetensors file"),
        ("other family", "does not fit .*sd1, Stable Diffusion 1.x, which has no such"),
        ("peft", "is PEFT's, .*`lcm-lora combine`"),
        ("alphas that differ", "alphas differ by module, .*`lcm-lora combine OUT harm.safetens"),
    ],
)
def test_what_is_no_style_of_the_family_is_not_published(
    harm: str, said: str, tracker: Tracker, params: Params, bases: Path
) -> None:
    file = write_harm(harm, tracker.root, bases / "sd1.safetensors", bases / "sdxl.safetensors")
    with pytest.raises(UserError, match=said) as caught:
        publish_style(tracker, params, "ink", file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "Ink", "a b", "-a", "../a", "a.b", "a" * 61])
def test_a_name_is_small_letters(name: str, tracker: Tracker, params: Params, bases: Path) -> None:
    for publish, what in ((publish_style, bases / "sd1.safetensors"), (publish_finetune, "x")):
        with pytest.raises(UserError, match="is no name; take small letters"):
            publish(tracker, params, name, what)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("sdxl", "is of sdxl, base.model of sd1"),
        ("none", "no such file"),
        ("x.ckpt", "pickled"),
        ("models:/some@finetune-dusk", "is published; name its folder, file or hub id"),
    ],
)
def test_what_is_no_finetune_of_the_family_is_not_published(
    model: str, said: str, tracker: Tracker, params: Params, bases: Path
) -> None:
    what = model if model.startswith("models:/") else str(bases / model)
    with pytest.raises(UserError, match=rf"^finetune dusk: .*{said}"):
        publish_finetune(tracker, params, "dusk", what)


def test_the_command_says_what_parameters_may_name(
    tracker: Tracker,
    bases: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = PRESET.read_text().replace("model: shapes", f"model: {bases / 'sd1'}")
    (tracker.root / "params.yaml").write_text(text)
    assert command.main(["style", "paper", str(bases / "sd1.safetensors")]) == 0
    assert command.main(["style", "paper", str(bases / "sd1.safetensors")]) == 0
    out = capsys.readouterr().out
    assert ", published; parameters name it models:/lcm-lora-shapes-modules@style-paper" in out
    assert ", published before, the same content; " in out
    assert command.main(["style", "Paper", "x.safetensors"]) == 1
    assert capsys.readouterr().err.startswith("error: style 'Paper': is no name")
    assert command.main(["style", "paper", "x" * 300]) == 1
    assert capsys.readouterr().err == f"error: {'x' * 300}: File name too long\n"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert command.main(["style", "paper", "x.safetensors"]) == 1
    assert "error: MLflow at http://127.0.0.1:9 does not answer" in capsys.readouterr().err
