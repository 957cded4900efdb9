"""Who paints in a subject, and that each paints what plain diffusers paints with such weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from making import CPU, shapes_base, shapes_inventory
from styles import write_style_of

from lcm_lora.data.shards import read_tar_members
from lcm_lora.errors import UserError
from lcm_lora.files import sha256
from lcm_lora.hashes import Hashes
from lcm_lora.painting import paint as painting
from lcm_lora.painting.paint import paint
from lcm_lora.painting.schedulers import scheduler_of
from lcm_lora.painting.sets import Theme
from lcm_lora.painting.subject import Subject, Weighted
from lcm_lora.params.generate import REAL, Cell, Sampling
from lcm_lora.params.score import Score
from lcm_lora.params.transfer import Transfer
from lcm_lora.pieces import Pieces
from lcm_lora.seeing.features import Job, features_of_all
from lcm_lora.seeing.image_sets import ImageSet, generated_sets, real_sets
from lcm_lora.seeing.network_files import find_networks
from lcm_lora.stages.inventory import forget
from lcm_lora.transfer.claimant import claimant
from lcm_lora.transfer.painters import Painter, painters_of
from lcm_lora.transfer.painting import paint_subject

ONE = Cell(steps=1, guidance=1.0)
SOLVER = Sampling(sampler="ddim", cells=(ONE,))
TWICE = Sampling(
    sampler="ddim", cells=(Cell(steps=2, guidance=1.0), Cell(steps=2, guidance=1.0, seeds=1))
)
PARAMS = Transfer.model_validate(
    {
        "prompts": 4,
        "painters": {"teacher": TWICE.model_dump(), "ddim": SOLVER.model_dump()},
        "adapter": {"sampler": "lcm", "cells": [ONE.model_dump()]},
        "map": {"cell": ONE.model_dump(), "acceleration": [0, 0.5, 1], "style": [0, 1]},
        "subjects": {"plain": {}, "style": {"adapters": {"style.safetensors": 0.8}}},
    }
)
CAPTIONS = ("a small red ring on a navy background", "a large teal disc on a cream background")
THEME = Theme(CAPTIONS, 32, seed=3, batch=2)

Shown = dict[str, list[bytes]]


@pytest.fixture(scope="session")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Weighted]:
    """Two LoRAs of the shapes base, by name: the new adapter and a style."""
    folder, found = tmp_path_factory.mktemp("adapters"), {}
    for seed, name in enumerate(("new", "style")):
        file = write_style_of(shapes_base().pipeline, folder / f"{name}.safetensors", seed)
        found[name] = Weighted(file, sha256(file))
    return found


@pytest.fixture(scope="session")
def subjects(adapters: dict[str, Weighted]) -> dict[str, dict[str, Painter]]:
    """Who paints in each subject."""
    base, style = shapes_inventory(), adapters["style"]
    new = Subject(base, (adapters["new"],), {"original_inference_steps": 50})
    own = {
        "plain": Subject(base),
        "style": Subject(base, (Weighted(style.file, style.sha256, 0.8),)),
    }
    return {name: painters_of(name, PARAMS, alone, new) for name, alone in own.items()}


class Place:
    """A folder with a store, in which subjects are painted."""

    def __init__(self, folder: Path, hashes: Hashes) -> None:
        self.folder, self.hashes = folder, hashes

    @property
    def pieces(self) -> Pieces:
        return Pieces(self.folder / "generate", self.hashes)

    def paint(self, name: str, painters: Mapping[str, Painter], theme: Theme = THEME) -> Path:
        out = self.folder / "images" / name
        paint_subject(name, painters, theme, CPU, self.pieces, out)
        return out


@pytest.fixture
def place(tmp_path: Path, hashes: Hashes) -> Place:
    return Place(tmp_path, hashes)


def counted(monkeypatch: pytest.MonkeyPatch, dies_at: int | None = None) -> list[int]:
    """Note the numbers of pictures that are really painted; raise at one of the calls."""
    real, calls = painting.paint, list[int]()

    def paint(base: Any, captions: Any, *rest: Any) -> Any:
        if len(calls) == dies_at:
            raise KeyboardInterrupt
        calls.append(len(captions))
        return real(base, captions, *rest)

    monkeypatch.setattr(painting, "paint", paint)
    return calls


def shown(folder: Path) -> Shown:
    """Return the pictures of every painter."""
    tars = sorted(folder.glob(f"*/{ONE.name}.tar"))
    return {tar.parent.name: [png for _, png in read_tar_members(tar)] for tar in tars}


def test_a_mix_has_so_much_of_each_and_nothing_of_what_weighs_nothing(
    subjects: dict[str, dict[str, Painter]], adapters: dict[str, Weighted]
) -> None:
    new, style = adapters["new"].file, adapters["style"].file
    worn = {
        who: {adapter.file: adapter.weight for adapter in painter.subject.adapters}
        for who, painter in subjects["style"].items()
    }
    assert worn == {
        "teacher": {style: 0.8},
        "ddim": {style: 0.8},
        "adapter": {new: 1.0, style: 0.8},
        "mix-0-0": {},
        "mix-50-0": {new: 0.5},
        "mix-100-0": {new: 1.0},
        "mix-0-100": {style: 0.8},
        "mix-50-100": {new: 0.5, style: 0.8},
        "mix-100-100": {new: 1.0, style: 0.8},
    }
    assert list(subjects["style"]) == PARAMS.names("style")
    assert (
        list(subjects["plain"])
        == PARAMS.names("plain")
        == [*("teacher", "ddim", "adapter", "mix-0-100", "mix-50-100", "mix-100-100")]
    )
    # With the new adapter or without, points of the map step over the grid that it was trained on.
    configs = [p.subject.lcm_config for w, p in subjects["style"].items() if w.startswith("mix")]
    assert all(config == {"original_inference_steps": 50} for config in configs)


def by_hand(adapters: dict[str, Weighted], weights: dict[str, float]) -> Any:
    """Paint with a fresh base and diffusers' own calls, uint8 [B, H, W, 3]."""
    base = shapes_base()
    for name in weights:
        file = adapters[name].file
        base.pipeline.load_lora_weights(file.parent, weight_name=file.name, adapter_name=name)
    if weights:
        base.pipeline.set_adapters(list(weights), list(weights.values()))
    config = dict(base.pipeline.scheduler.config)
    base.pipeline.scheduler = scheduler_of("lcm", config, {"original_inference_steps": 50})
    return paint(base, CAPTIONS, ONE, 32, 3)


def test_every_painter_paints_what_a_fresh_base_in_its_adapters_paints(
    place: Place, subjects: dict[str, dict[str, Painter]], adapters: dict[str, Weighted]
) -> None:
    """Though one base is loaded, and has worn the adapters of others before."""
    folder = place.paint("style", subjects["style"])
    for who, weights in (
        ("mix-50-100", {"new": 0.5, "style": 0.8}),
        ("mix-0-100", {"style": 0.8}),
        ("mix-0-0", {}),
    ):
        (made,) = generated_sets(folder / who, who, "lcm-lora transfer style")
        pictures = [np.asarray(made.decoded(*png)) for png in made.pngs()]
        assert np.array_equal(np.stack(pictures), by_hand(adapters, weights)), who
    assert len({tuple(pngs) for pngs in shown(folder).values()}) == len(shown(folder)) - 1


def test_where_subjects_meet_nothing_is_painted_twice(
    place: Place, subjects: dict[str, dict[str, Painter]], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = counted(monkeypatch)
    style = shown(place.paint("style", subjects["style"]))
    assert len(calls) == 9, "the corner of whole weights is the adapter's own cell"
    assert style["adapter"] == style["mix-100-100"]
    plain = shown(place.paint("plain", subjects["plain"]))
    assert len(calls) == 9 + 3, "teacher and solver; mixes without the style are known"
    for who in ("0", "50", "100"):
        assert plain[f"mix-{who}-100"] == style[f"mix-{who}-0"]
    tars = [place.folder / "images" / "style" / who / f"{ONE.name}.tar" for who in style]
    assert all(tar.stat().st_nlink > 1 for tar in tars), "and nothing is kept twice"


def test_killed_anywhere_a_subject_goes_on(
    place: Place, subjects: dict[str, dict[str, Painter]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        before = counted(patched, dies_at=5)
        with pytest.raises(KeyboardInterrupt):
            place.paint("style", subjects["style"])
    assert not (place.folder / "images" / "style").exists()
    after = counted(monkeypatch)
    place.paint("style", subjects["style"])
    assert len(before) + len(after) == 9


def test_a_subject_that_is_gone_is_forgotten_and_others_stay(
    place: Place,
    subjects: dict[str, dict[str, Painter]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, painters in subjects.items():
        place.paint(name, {who: painters[who] for who in ("teacher", "ddim")})
    monkeypatch.chdir(place.folder)
    (place.folder / ".checkpoints").mkdir()
    (place.folder / "generate").rename(place.folder / ".checkpoints" / "generate")
    (place.folder / "artifacts" / "transfer").mkdir(parents=True)
    (place.folder / "images").rename(place.folder / "artifacts" / "transfer" / "images")
    forget(["teacher"], ["style"], place.hashes)
    left = [path.name for path in (place.folder / "artifacts/transfer/images").iterdir()]
    assert left == ["style"]
    users = (place.folder / ".checkpoints" / "generate" / "users").iterdir()
    assert [path.stem for path in users] == [claimant("style")]
    assert len(list((place.folder / ".checkpoints").glob("generate/*/pictures.tar"))) == 3
    said = capsys.readouterr().err
    assert said.endswith("no subjects any more: plain; their pictures are removed\n")


def test_an_adapter_that_does_not_fit_is_named(
    place: Place, subjects: dict[str, dict[str, Painter]], tmp_path: Path
) -> None:
    file = tmp_path / "torn.safetensors"
    file.write_bytes(b"torn")
    torn = Subject(shapes_inventory(), (Weighted(file, sha256(file)),))
    with pytest.raises(UserError, match=r"torn\.safetensors: no safetensors file, or damaged"):
        place.paint("torn", {"teacher": Painter(TWICE, torn)})
    assert not (place.folder / "images" / "torn").exists()


@pytest.fixture
def real(data: Path) -> list[ImageSet]:
    return real_sets(data / "data" / "evaluation")


def looked_at(place: Place, sets: dict[str, list[ImageSet]]) -> Path:
    import torch

    wanted = Score.model_validate({"networks": {"shapes": {"kind": "shapes"}}})
    networks = find_networks(wanted, place.hashes)
    pieces = Pieces(place.folder / "features", place.hashes)
    job = Job(wanted, networks, torch.device("cpu"), pieces, place.hashes)
    out = place.folder / f"seen-{len(sets)}-{len(sets[REAL][0].captions)}"
    features_of_all(job, "transfer.style", "transfer-features style", sets, out)
    return out


def test_of_real_pictures_those_of_the_first_captions_are_seen(
    place: Place, real: list[ImageSet]
) -> None:
    from safetensors.numpy import load_file

    few = looked_at(place, {REAL: [images.first(3) for images in real]})
    whole = looked_at(place, {REAL: real})
    for name in ("real", "reference"):
        one, all_ = (load_file(folder / REAL / f"{name}.safetensors") for folder in (few, whole))
        for array, values in one.items():
            assert len(values) == 3
            assert values == pytest.approx(all_[array][:3], abs=1e-5)
    (tar, *_) = real
    assert len(list(tar.first(2).pngs())) == 2
    with pytest.raises(UserError, match=r"holds 4 pictures for 5 captions"):
        list(ImageSet(**{n: getattr(tar, n) for n in tar.__slots__} | {"held": 5}).pngs())
