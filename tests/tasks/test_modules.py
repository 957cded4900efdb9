"""Styles and fine-tunes are published once for each content, and brought as they are named."""

from __future__ import annotations

import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML
from safetensors.torch import load_file, save_file
from serving import artifacts_of, drawn, looked_at, serve, write_project
from styles import write_style
from tiny_bases import tiny_pipeline

from flows import publish as command
from lcm_lora import layout
from lcm_lora.errors import UserError
from lcm_lora.files import sha256
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base import look_at_base
from lcm_lora.inventory.modules import Module, module_file, module_folder
from lcm_lora.inventory.subjects import look_at_subjects
from lcm_lora.params.base import Base
from lcm_lora.params.file import Params, load_params
from lcm_lora.params.transfer import Subject
from lcm_lora.recipe import WEIGHTS
from lcm_lora.records import read_record
from tasks.modules import Published, bring, publish_finetune, publish_style
from tasks.tracking import Tracker, connect

ROOT = Path(__file__).parents[2]
PRESET = ROOT / "lcm_lora" / "presets" / "shapes.yaml"

SHIPPED = "lcm_lora/shapes/weights/styles/ink.safetensors"


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny bases, a fine-tune of one, and styles for them. Read only."""
    folder = tmp_path_factory.mktemp("bases")
    for family in ("sd1", "sdxl"):
        tiny_pipeline(family).save_pretrained(folder / family)  # type: ignore[arg-type]
    shutil.copytree(folder / "sd1", folder / "dusk")
    change(folder / "dusk")
    for number in (1, 2):
        write_style(folder / f"style{number}.safetensors", "sd1", seed=number)
    write_style(folder / "sdxl.safetensors", "sdxl", seed=1)
    return folder


def change(base: Path) -> None:
    """Fine-tune a base, as it were."""
    weights = base / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = {name: tensor * 1.5 for name, tensor in load_file(weights).items()}
    save_file(tensors, weights, {"format": "pt"})


@pytest.fixture
def tracker(mlflow_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tracker:
    """A project's folder of its own, where one is, at an MLflow that all share."""
    monkeypatch.chdir(tmp_path)
    known = connect(mlflow_folder, "modules")
    return Tracker(known.client, known.experiment_id, tmp_path)


@pytest.fixture
def params(tracker: Tracker, bases: Path) -> Params:
    """Parameters on the tiny base, and a registered model of the test's own."""
    params = load_params(PRESET)
    registry = params.registry.model_copy(update={"name": tracker.root.name})
    return params.model_copy(update={"registry": registry, "base": Base(model=str(bases / "sd1"))})


def naming(params: Params, *subjects: Subject) -> Params:
    """Return parameters whose transfer tries these subjects."""
    named = {f"s{number}": subject for number, subject in enumerate(subjects)}
    return params.model_copy(
        update={"transfer": params.transfer.model_copy(update={"subjects": named})}
    )


def aliases(tracker: Tracker, params: Params) -> dict[str, str]:
    found = tracker.client.get_registered_model(f"{params.registry.name}-modules").aliases
    return {alias: str(version) for alias, version in found.items()}


# --- publishing ---


def test_an_alias_means_the_content_that_was_published_last(
    tracker: Tracker, params: Params, bases: Path
) -> None:
    one, two = (bases / f"style{number}.safetensors" for number in (1, 2))
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
    monkeypatch.setattr("tasks.carried._LARGEST", 1)
    elsewhere = Path(shutil.copytree(bases / "dusk", tracker.root / "elsewhere"))
    moved = publish_finetune(tracker, params, "dusk", str(elsewhere))
    assert moved.is_new  # the same content, but a reference to another place
    files = {file.path for file in tracker.client.list_artifacts(run_of(tracker, moved), "module")}
    assert files == {"module/base.json"}


def run_of(tracker: Tracker, published: Published) -> str:
    version = tracker.client.get_model_version(published.model, published.version)
    return str(version.run_id)


def write_harm(harm: str, folder: Path, style: Path, other: Path) -> Path:
    """Write what is no style for the base."""
    file = folder / "harm.safetensors"
    tensors = load_file(style)
    first = sorted(name for name in tensors if "down" in name)[0]
    match harm:
        case "nan":
            save_file(tensors | {first: tensors[first] * float("nan")}, file)
        case "no lora":
            save_file({"conv.weight": torch.zeros(2)}, file)
        case "empty":
            save_file({}, file)
        case "pickle":
            file = file.with_suffix(".pt")
            file.write_bytes(pickle.dumps({}))
        case "a pickle inside":
            file.write_bytes(pickle.dumps({}))
        case "other family":
            shutil.copy(other, file)
        case "peft":
            file = folder / "peft"
            file.mkdir()
            shutil.copy(style, file / "adapter_model.safetensors")
    return file


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("gone", "no such file"),
        ("nan", "NaN"),
        ("no lora", "no LoRA"),
        ("empty", "holds no LoRA"),
        ("pickle", "pickled weights are refused"),
        ("a pickle inside", "no safetensors file"),
        ("other family", "does not fit .*sd1, Stable Diffusion 1.x, which has no such"),
        ("peft", "is a folder of PEFT"),
    ],
)
def test_what_is_no_style_of_the_family_is_not_published(
    harm: str, said: str, tracker: Tracker, params: Params, bases: Path
) -> None:
    file = write_harm(harm, tracker.root, bases / "style1.safetensors", bases / "sdxl.safetensors")
    with pytest.raises(UserError, match=said) as caught:
        publish_style(tracker, params, "ink", file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "Ink", "a b", "-a", "../a", "a.b", "a" * 61])
def test_a_name_is_small_letters(name: str, tracker: Tracker, params: Params, bases: Path) -> None:
    for publish, what in ((publish_style, bases / "style1.safetensors"), (publish_finetune, "x")):
        with pytest.raises(UserError, match="is no name; take small letters"):
            publish(tracker, params, name, what)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("model", "said"),
    [("sdxl", "is of sdxl, base.model of sd1"), ("none", "no such file"), ("x.ckpt", "pickled")],
)
def test_what_is_no_finetune_of_the_family_is_not_published(
    model: str, said: str, tracker: Tracker, params: Params, bases: Path
) -> None:
    with pytest.raises(UserError, match=rf"^finetune dusk: .*{said}"):
        publish_finetune(tracker, params, "dusk", str(bases / model))


def test_the_commands_of_the_guide_publish(tracker: Tracker) -> None:
    shutil.copy(PRESET, tracker.root / "params.yaml")
    (tracker.root / "lcm_lora").symlink_to(ROOT / "lcm_lora")
    text = (ROOT / "docs" / "styles.md").read_text()
    commands = re.findall(r"^python -m flows\.publish (.+)$", text, re.MULTILINE)
    assert [line.split()[0] for line in commands] == ["style", "finetune"]
    for line in commands:
        assert command.main(line.split()) == 0
    (example,) = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    named = YAML(typ="safe").load(example)["transfer"]["subjects"]
    params = load_params(PRESET)
    params = naming(params, *(Subject.model_validate(subject) for subject in named.values()))
    bring.fn(tracker, params)
    with Hashes(tracker.root / layout.HASHES) as hashes:
        base = look_at_base(params.base, hashes)
        ink, dusk = look_at_subjects(params.transfer, base, hashes).values()
    assert ink.adapters[0].sha256 == sha256(ROOT / SHIPPED)
    assert dusk.base is not None
    assert dusk.base.sha256 != base.sha256


def test_the_command_says_what_parameters_may_name(
    tracker: Tracker,
    bases: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = PRESET.read_text().replace("model: shapes", f"model: {bases / 'sd1'}")
    (tracker.root / "params.yaml").write_text(text)
    assert command.main(["style", "paper", str(bases / "style1.safetensors")]) == 0
    assert command.main(["style", "paper", str(bases / "style1.safetensors")]) == 0
    out = capsys.readouterr().out
    assert "version 1, published; parameters name it models:/lcm-lora-shapes-modules@style-p" in out
    assert "version 1, published before, the same content" in out
    assert command.main(["style", "Paper", "x.safetensors"]) == 1
    assert capsys.readouterr().err.startswith("error: style 'Paper': is no name")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert command.main(["style", "paper", "x.safetensors"]) == 1
    assert "error: MLflow at http://127.0.0.1:9 does not answer" in capsys.readouterr().err


# --- bringing ---


def brought(tracker: Tracker, name: str) -> Module:
    return read_record(tracker.root / module_folder(name) / "module.json", Module, "")


def test_what_is_named_is_brought_once_and_again_where_it_means_another(
    tracker: Tracker, params: Params, bases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (bases / f"style{number}.safetensors" for number in (1, 2))
    name = publish_style(tracker, params, "ink", one).name
    params = naming(params, Subject(adapters={name: 1.0, "some.safetensors": 1.0}))
    bring.fn(tracker, params)
    assert sha256(module_file(name)) == sha256(one)
    assert brought(tracker, name).version == f"{params.registry.name}-modules version 1"
    written = module_file(name).stat()

    publish_style(tracker, params, "other", two)
    bring.fn(tracker, params)
    assert module_file(name).stat() == written

    publish_style(tracker, params, "ink", two)
    bring.fn(tracker, params)
    assert sha256(module_file(name)) == brought(tracker, name).sha256 == sha256(two)

    module_file(name).write_bytes(b"damaged")
    bring.fn(tracker, params)
    assert sha256(module_file(name)) == sha256(two)

    pinned = f"models:/{params.registry.name}-modules/1"
    bring.fn(tracker, naming(params, Subject(adapters={pinned: 1.0})))
    assert sha256(module_file(pinned)) == sha256(one)
    assert not module_folder(name).exists()
    bring.fn(tracker, naming(params))
    assert list((tracker.root / layout.MODULES).iterdir()) == []
    with pytest.raises(UserError, match=rf"^{pinned}: is not here; run `python -m flows.retrain`"):
        module_file(pinned)


def test_painters_name_styles_too(tracker: Tracker, params: Params, bases: Path) -> None:
    name = publish_style(tracker, params, "ink", bases / "style1.safetensors").name
    painters = dict(params.generate.painters)
    painters["teacher"] = painters["teacher"].model_copy(update={"adapters": {name: 0.5}})
    generate = params.generate.model_copy(update={"painters": painters})
    bring.fn(tracker, naming(params.model_copy(update={"generate": generate})))
    assert module_file(name).is_file()


@pytest.mark.parametrize("inside", [True, False])
def test_a_finetune_of_the_registry_is_the_base_that_was_published(
    inside: bool, tracker: Tracker, params: Params, bases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not inside:
        monkeypatch.setattr("tasks.carried._LARGEST", 1)
    own = Path(shutil.copytree(bases / "dusk", tracker.root / "dusk"))
    name = publish_finetune(tracker, params, "dusk", str(own)).name
    known = looked_at(tracker.root, Base(model=str(own)))
    bring.fn(tracker, naming(params, Subject(base=name)))
    assert looked_at(tracker.root, Base(model=name)).sha256 == known.sha256
    change(own)
    if inside:
        assert looked_at(tracker.root, Base(model=name)).sha256 == known.sha256
    else:
        with pytest.raises(UserError, match=r"is not as it was published.*publish it again"):
            looked_at(tracker.root, Base(model=name))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("models:/MODEL@style-none", "the registry does not have it"),
        ("models:/none@style-ink", "the registry does not have it"),
        ("models:/MODEL/77", "the registry does not have it"),
        ("models:/MODEL", r"is no name; write models:/NAME@ALIAS or models:/NAME/VERSION"),
        ("models:/MODEL@finetune-dusk", "was not published as a style"),
    ],
)
def test_what_the_registry_has_not_is_one_line(
    name: str, said: str, tracker: Tracker, params: Params, bases: Path
) -> None:
    model = publish_finetune(tracker, params, "dusk", str(bases / "dusk")).model
    name = name.replace("MODEL", model)
    with pytest.raises(UserError, match=rf"^{name}: .*{said}") as caught:
        bring.fn(tracker, naming(params, Subject(adapters={name: 1.0})))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("harm", ["gone", "others"])
def test_bytes_that_were_not_published_are_not_brought(
    harm: str, tracker: Tracker, params: Params, bases: Path
) -> None:
    published = publish_style(tracker, params, "ink", bases / "style1.safetensors")
    source = tracker.client.get_model_version(published.model, published.version).source
    stored = Path(str(source).removeprefix("file://")) / WEIGHTS
    if harm == "gone":
        stored.unlink()
    else:
        stored.write_bytes(b"others")
    with pytest.raises(UserError, match=rf"^{published.name}: .* is not as it was published; "):
        bring.fn(tracker, naming(params, Subject(adapters={published.name: 1.0})))
    assert not module_folder(published.name).exists()
    tracker.client.delete_model_version(published.model, published.version)
    publish_style(tracker, params, "ink", bases / "style1.safetensors")
    bring.fn(tracker, naming(params, Subject(adapters={published.name: 1.0})))
    assert module_file(published.name).is_file()


# --- serving ---


def test_the_served_model_takes_a_style_by_its_alias(
    tracker: Tracker, params: Params, bases: Path
) -> None:
    published = publish_style(tracker, params, "ink", bases / "style1.safetensors")
    write_project(tracker.root, tiny_pipeline("sd1"), params.base)
    artifacts, file = artifacts_of(tracker.root), str(bases / "style1.safetensors")
    pinned = f"models:/{published.model}/{published.version}"
    named: Any = {"ink": file, "alias": published.name, "pinned": pinned}
    model = serve(artifacts, styles=named)
    pictures = [drawn(model, ["a ring"], styles=name, num_inference_steps=1) for name in named]
    assert len({picture.tobytes() for (picture,) in pictures}) == 1
    for none in ("models:/none@style-x", "models:/none/1", "models:/none"):
        with pytest.raises(FileNotFoundError, match=rf"^style ink: {none}: not to be had \(Ml"):
            serve(artifacts, styles={"ink": none})
    tracker.client.set_model_version_tag(published.model, published.version, "sha256", "0")
    with pytest.raises(ValueError, match=r"^style ink: .*: not as it was published"):
        serve(artifacts, styles={"ink": pinned})
