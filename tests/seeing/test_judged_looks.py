"""Looks in scores: a judge that knows them says so beside content, and only where it is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from seen import Looking

from lcm_lora.errors import UserError
from lcm_lora.evaluation.estimates import estimator_of
from lcm_lora.evaluation.names import metrics_of
from lcm_lora.inventory.networks import look_at_networks
from lcm_lora.params.score import Looks, Score
from lcm_lora.seeing.looking import look
from lcm_lora.seeing.viewers import Viewers
from lcm_lora.shapes import places
from lcm_lora.shapes.looks import render_looks
from lcm_lora.shapes.looks_judge import LooksJudge, Sight
from lcm_lora.shapes.scenes import Scene

CPU = torch.device("cpu")
NAMES = ("attributes", "look", "both")


@pytest.fixture
def shipped(looking: Looking) -> Looking:
    """Return a looking whose judges have learnt."""
    looking.judges = places.JUDGES
    return looking


def score(**update: Any) -> Score:
    return Score(**{"networks": {"shapes": {"kind": "shapes"}}} | update)


def record(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    return found


def test_content_and_looks_are_told_apart(
    shipped: Looking, image_sets: Any, scenes: list[Scene]
) -> None:
    """Half of the pictures are in ink, and half have a caption that is not theirs."""
    inked = render_looks(scenes, 32, ("ink",))
    pictures = np.where(
        np.arange(24)[:, None, None, None] < 12, inked, render_looks(scenes, 32, ())
    )
    captions = [scene.caption for scene in scenes]
    captions[6:18] = [*captions[7:18], captions[6]]
    images = image_sets(captions=tuple(captions), pixels=pictures)
    path = shipped.at(images, looks=("ink",))
    found = load_file(path)
    assert {name: found[name].dtype.name for name in NAMES} == dict.fromkeys(NAMES, "float32")
    mistakes = {
        "look": (np.arange(24) < 12) != found["look"],
        "attributes": np.isin(np.arange(24), range(6, 18)) == found["attributes"],
    }
    assert all(wrong.sum() <= 1 for wrong in mistakes.values())
    assert np.array_equal(found["both"], found["attributes"] * found["look"])
    arrays = record(path)["arrays"]
    assert {arrays[name]["name"] for name in NAMES} == {"shapes, looks: ink"}


def test_looks_that_are_wanted_decide_what_is_kept(shipped: Looking, image_sets: Any) -> None:
    """The same pictures are seen again where other looks are wanted of them."""
    images = image_sets()
    ink, none = (load_file(shipped.at(images, looks=looks)) for looks in (("ink",), ()))
    assert ink["look"].mean() < 0.1
    assert none["look"].mean() > 0.9
    assert np.array_equal(ink["attributes"], none["attributes"])


def test_without_looks_nothing_is_judged_of_them(shipped: Looking, image_sets: Any) -> None:
    arrays = record(shipped.at(image_sets()))["arrays"]
    assert arrays.keys() == {"features/shapes", "clip", "attributes"}
    assert arrays["attributes"]["name"] == "shapes"
    judge = shipped.job().networks.attributes
    assert (judge.path, judge.kind) == (places.JUDGE, "judge")


@pytest.mark.parametrize(
    ("asked", "looks", "judged"),
    [
        (True, None, ["attributes"]),
        (False, None, []),
        (True, (), [*NAMES]),
        (False, ("ink", "dusk"), [*NAMES]),
    ],
)
def test_a_table_holds_what_is_judged(asked: bool, looks: Looks, judged: list[str]) -> None:
    metrics = metrics_of(score(attributes=asked), several_noises=False, looks=looks)
    found = [metric for metric in metrics if metric.array in NAMES]
    assert [metric.name for metric in found] == judged
    assert all((m.kind, m.unit, m.lower_is_better) == ("mean", "share", False) for m in found)


def test_pictures_can_be_measured_by_their_looks(shipped: Looking, scenes: list[Scene]) -> None:
    networks = shipped.job(looks=("dusk",)).networks
    captions = tuple(scene.caption for scene in scenes)
    for name in NAMES:
        estimator = estimator_of(name, networks, captions, [], CPU)
        assert estimator(list(render_looks(scenes, 32, ("dusk",)))).value >= 0.9


def test_the_first_look_holds_the_judge_of_looks(shipped: Looking) -> None:
    found = look_at_networks(
        score(), shipped.job().hashes, shipped.judges, looks=("ink",)
    ).attributes
    assert found is not None
    assert found.files.keys() == {"looks.safetensors"}


def test_a_missing_or_damaged_judge_of_looks_is_one_line(
    looking: Looking, image_sets: Any, judges: Path, tmp_path: Path
) -> None:
    """The folder of the untrained judges has none."""
    with pytest.raises(UserError, match=r"looks.safetensors: no such file; set looks to null"):
        looking.at(image_sets(), looks=("ink",))
    looking.judges = tmp_path / "judges"
    looking.judges.mkdir()
    (looking.judges / "clip").symlink_to(judges / "clip")
    (looking.judges / "looks.safetensors").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"cannot be loaded .*; set looks to null") as error:
        looking.at(image_sets(), looks=("ink",))
    assert "\n" not in str(error.value)


def test_a_batch_is_read_once_for_all_that_is_said_of_it(
    shipped: Looking, scenes: list[Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = LooksJudge.read, list[int]()

    def read(self: LooksJudge, pictures: torch.Tensor) -> Sight:
        calls.append(len(pictures))
        return real(self, pictures)

    monkeypatch.setattr(LooksJudge, "read", read)
    viewers = Viewers(shipped.job(looks=("ink",)).networks, CPU)
    captions = tuple(scene.caption for scene in scenes)
    views = {name: viewers.judged(captions, name) for name in NAMES}
    seen = look(list(render_looks(scenes, 32, ("ink",))), views, CPU)
    assert calls == [len(scenes)]
    assert np.array_equal(seen["both"], seen["attributes"] * seen["look"])
