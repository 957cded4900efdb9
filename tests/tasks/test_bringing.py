"""Styles and fine-tunes that parameters name are brought as they were published, as named now."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from safetensors.torch import load_file, save_file
from serving import looked_at

from flows import publish as command
from lcm_lora import layout
from lcm_lora.adapter_files import WEIGHTS
from lcm_lora.errors import UserError
from lcm_lora.files import sha256
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base import look_at_base
from lcm_lora.inventory.modules import Brought, brought_file, brought_folder
from lcm_lora.inventory.subjects import look_at_subjects
from lcm_lora.params.base import Base
from lcm_lora.params.file import Params, load_params
from lcm_lora.params.transfer import Subject
from lcm_lora.records import read_record
from lcm_lora.shapes import places
from tasks.registry.bringing import bring
from tasks.registry.publishing import publish_finetune, publish_style
from tasks.tracking.tracker import Tracker

ROOT = Path(__file__).parents[2]
PRESET = ROOT / "lcm_lora" / "presets" / "shapes.yaml"


def naming(params: Params, *subjects: Subject) -> Params:
    """Return parameters whose transfer tries these subjects."""
    named = {f"s{number}": subject for number, subject in enumerate(subjects)}
    return params.model_copy(
        update={"transfer": params.transfer.model_copy(update={"subjects": named})}
    )


def brought(tracker: Tracker, name: str) -> Brought:
    return read_record(tracker.root / brought_folder(name) / "brought.json", Brought, "")


def untouched(path: Path) -> tuple[int, int]:
    """Return what changes with any write of a file, and with no reading of it."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def test_what_is_named_is_brought_once_and_again_where_it_means_another(
    tracker: Tracker, params: Params, bases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (bases / "sd1.safetensors", bases / "other.safetensors")
    name = publish_style(tracker, params, "ink", one).name
    params = naming(params, Subject(adapters={name: 1.0, "some.safetensors": 1.0}))
    bring.fn(tracker, params)
    assert sha256(brought_file(name)) == sha256(one)
    assert brought(tracker, name).version == f"{params.registry.name}-modules version 1"
    written = untouched(brought_file(name))

    publish_style(tracker, params, "other", two)
    bring.fn(tracker, params)
    assert untouched(brought_file(name)) == written

    publish_style(tracker, params, "ink", two)
    bring.fn(tracker, params)
    assert sha256(brought_file(name)) == brought(tracker, name).sha256 == sha256(two)

    brought_file(name).write_bytes(b"damaged")
    bring.fn(tracker, params)
    assert sha256(brought_file(name)) == sha256(two)

    pinned = f"models:/{params.registry.name}-modules/1"
    bring.fn(tracker, naming(params, Subject(adapters={pinned: 1.0})))
    assert sha256(brought_file(pinned)) == sha256(one)
    assert not brought_folder(name).exists()
    lost = f"models:/{params.registry.name}-modules/77"
    with pytest.raises(UserError, match="does not have it"):
        bring.fn(tracker, naming(params, Subject(adapters={lost: 1.0})))
    assert brought_file(pinned).is_file()  # what there is stays, until all is there
    bring.fn(tracker, naming(params))
    assert list((tracker.root / layout.MODULES).iterdir()) == []
    with pytest.raises(UserError, match=rf"^{pinned}: is not here; run `python -m flows.transfer`"):
        brought_file(pinned)


def test_painters_name_styles_too(tracker: Tracker, params: Params, bases: Path) -> None:
    name = publish_style(tracker, params, "ink", bases / "sd1.safetensors").name
    painters = dict(params.generate.painters)
    painters["teacher"] = painters["teacher"].model_copy(update={"adapters": {name: 0.5}})
    generate = params.generate.model_copy(update={"painters": painters})
    bring.fn(tracker, naming(params.model_copy(update={"generate": generate})))
    assert brought_file(name).is_file()


@pytest.mark.parametrize("inside", [True, False])
def test_a_finetune_of_the_registry_is_the_base_that_was_published(
    inside: bool, tracker: Tracker, params: Params, bases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not inside:
        monkeypatch.setattr("tasks.registry.carried._LARGEST", 1)
    own = Path(shutil.copytree(bases / "dusk", tracker.root / "dusk"))
    name = publish_finetune(tracker, params, "dusk", str(own)).name
    known = looked_at(tracker.root, Base(model=str(own)))
    bring.fn(tracker, naming(params, Subject(base=name)))
    assert looked_at(tracker.root, Base(model=name)).sha256 == known.sha256
    weights = own / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: -tensor for name, tensor in load_file(weights).items()}, weights)
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
        ("models:/MODEL", "names no version; write models:/NAME/3 or models:/NAME@ALIAS"),
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
    published = publish_style(tracker, params, "ink", bases / "sd1.safetensors")
    source = tracker.client.get_model_version(published.model, published.version).source
    stored = Path(str(source).removeprefix("file://")) / WEIGHTS
    if harm == "gone":
        stored.unlink()
    else:
        stored.write_bytes(b"others")
    with pytest.raises(UserError, match=rf"^{published.name}: .* is not as it was published; "):
        bring.fn(tracker, naming(params, Subject(adapters={published.name: 1.0})))
    assert not brought_folder(published.name).exists()
    tracker.client.delete_model_version(published.model, published.version)
    publish_style(tracker, params, "ink", bases / "sd1.safetensors")
    bring.fn(tracker, naming(params, Subject(adapters={published.name: 1.0})))
    assert brought_file(published.name).is_file()


def test_the_commands_of_the_guide_publish(tracker: Tracker) -> None:
    shutil.copy(PRESET, tracker.root / "params.yaml")
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
    assert ink.adapters[0].sha256 == sha256(places.INK)
    assert dusk.base is not None
    assert dusk.base.sha256 != base.sha256
