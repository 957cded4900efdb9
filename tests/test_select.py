"""The best candidate becomes the adapter: by each metric, from equal noise, untouched by others."""

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from making import make_adapter, make_data, shapes_base, shapes_inventory
from numpy.typing import NDArray
from ruamel.yaml import YAML
from safetensors.torch import load_file

from lcm_lora import layout
from lcm_lora.adapter_files import KOHYA, RECIPE, WEIGHTS
from lcm_lora.bases import Base
from lcm_lora.candidates import Candidate, candidate_name, find_candidates
from lcm_lora.data.picture_sets import read_set
from lcm_lora.errors import UserError
from lcm_lora.evaluation.kernel import kernel_distance, kernel_standard_error
from lcm_lora.evaluation.names import selection_metric
from lcm_lora.evaluation.selection import JudgedCandidate, Selection, best, read_selection
from lcm_lora.files import sha256, write_json, write_tensors
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.networks import look_at_networks
from lcm_lora.painting.dressed import wearing
from lcm_lora.painting.paint import paint
from lcm_lora.painting.schedulers import scheduler_of
from lcm_lora.painting.subject import with_adapter
from lcm_lora.params.generate import Cell
from lcm_lora.params.score import Network, Score
from lcm_lora.params.select import Select
from lcm_lora.params.sources import ShapesSource
from lcm_lora.records import write_record
from lcm_lora.seeing.attributes import attributes_of_captions
from lcm_lora.seeing.image_sets import real_set
from lcm_lora.seeing.network_files import Networks, find_networks
from lcm_lora.seeing.networks import load_clip_scorer, load_feature_network
from lcm_lora.selecting import select
from lcm_lora.shapes import places
from lcm_lora.shapes.judge import load_judge
from lcm_lora.stages import select as stage

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")
SCORE = Score(networks={"shapes": Network(kind="shapes")})
METRICS = ("attributes", "clip_score", "kid_shapes:real")
SCALES = {20: 30.0, 150: 1.0, 1000: -30.0}
"""Weights of a candidate at a step, as multiples of those that were trained: a peak in between."""


def write_candidate(adapter: Path, folder: Path, scale: float) -> None:
    shutil.copytree(adapter, folder)
    weights = {name: tensor * scale for name, tensor in load_file(adapter / WEIGHTS).items()}
    write_tensors(folder / WEIGHTS, weights, metadata_of(adapter / WEIGHTS))
    recipe = json.loads((adapter / RECIPE).read_text())
    write_json(folder / RECIPE, recipe | {"weights_sha256": sha256(folder / WEIGHTS)})


def metadata_of(file: Path) -> dict[str, str]:
    content = file.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return dict(header["__metadata__"])


@pytest.fixture(scope="module")
def untouched(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project in which everything before the stage has run."""
    root = tmp_path_factory.mktemp("selecting")
    make_data(root, ShapesSource(count=90, seed=5), chosen=12, held_out=0.3, selection=0.3)
    write_record(root / layout.INVENTORY / "base.json", shapes_inventory())
    with Hashes(root / "hashes.sqlite") as hashes:
        write_record(root / layout.INVENTORY / "networks.json", look_at_networks(SCORE, hashes))
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    params["select"] |= {"steps": 2, "batch": 5}
    (root / layout.PARAMS).write_text(json.dumps(params))
    adapter = make_adapter(root / "home", cache, steps=2, rank=4, alpha=8)
    for step, scale in SCALES.items():
        write_candidate(adapter, root / layout.CANDIDATES / candidate_name(step), scale)
    return root


@pytest.fixture(scope="module")
def project(untouched: Path) -> Iterator[Path]:
    """Return it after the stage; each test works in its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(untouched)
        stage.run()
        yield untouched


@pytest.fixture(scope="module")
def shared() -> Base:
    """Return a base that comes back as it was."""
    return shapes_base()


def networks() -> Networks:
    with tempfile.TemporaryDirectory() as folder, Hashes(Path(folder) / "hashes") as hashes:
        return find_networks(SCORE, hashes)


def choose(project: Path, base: Base, out: Path, **params: object) -> Selection:
    wanted = {"steps": 2, "batch": 5, "seed": 2000} | params
    found = find_candidates(project / layout.CANDIDATES)
    place, record = project / layout.SELECTION, out / "selection" / "selection.json"
    choice = Select(**wanted)  # type: ignore[arg-type]
    metric = selection_metric(SCORE, choice.metric)
    select(choice, metric, networks(), base, found, place, out / "adapter", record)
    return read_selection(record)


def test_the_adapter_is_the_best_candidate_byte_for_byte(project: Path) -> None:
    record = read_selection(project / layout.SELECTED)
    chosen = project / layout.CANDIDATES / candidate_name(150)
    assert record.chosen == 150
    assert sha256(project / layout.ADAPTER) == sha256(chosen)
    assert {p.name for p in (project / layout.ADAPTER).iterdir()} == {WEIGHTS, KOHYA, RECIPE}
    assert [row.step for row in record.rows] == [20, 150, 1000]
    assert (record.metric, record.steps, record.prompts) == ("attributes", 2, 12)
    assert [p.name for p in (project / layout.SELECTED).parent.iterdir()] == ["selection.json"]


@pytest.fixture(scope="module")
def records(
    project: Path, shared: Base, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Selection]:
    """Return the choice by each metric, of one base after all the other."""
    out = tmp_path_factory.mktemp("choices")
    return {m: choose(project, shared, out / m[:3], metric=m) for m in METRICS}


@pytest.mark.parametrize("metric", METRICS)
def test_each_metric_sees_the_peak(records: dict[str, Selection], metric: str) -> None:
    assert records[metric].chosen == 150
    assert records[metric].lower_is_better == (metric == "kid_shapes:real")


def test_a_choice_is_the_same_again(project: Path, records: dict[str, Selection]) -> None:
    assert records["attributes"] == read_selection(project / layout.SELECTED)


def fresh_pictures(project: Path, candidate: Candidate) -> NDArray[np.uint8]:
    """Paint the selection set with a base that no other adapter was ever loaded into."""
    base, real = shapes_base(), read_set(project / layout.SELECTION, "selection")
    subject = with_adapter(base.found, candidate.folder)
    parts = []
    with wearing(base, subject):
        for first in range(0, 12, 5):
            part = real.captions[first : first + 5]
            base.pipeline.scheduler = scheduler_of("lcm", {}, subject.lcm_config)
            parts.append(paint(base, part, Cell(steps=2, guidance=1.0), 32, 2000, first))
    return np.concatenate(parts)


def test_values_are_those_of_each_candidate_alone(
    project: Path, records: dict[str, Selection]
) -> None:
    """What is painted after another candidate does not depend on it; and errors are the usual."""
    images, files = real_set(project / layout.SELECTION, "selection"), networks()
    embed = load_feature_network(files.features["shapes"], CPU)
    clip = load_clip_scorer(files.clip, CPU)
    (candidate,) = find_candidates(project / layout.CANDIDATES)[1:2]
    painted = fresh_pictures(project, candidate)
    real = np.stack([np.asarray(images.decoded(*png)) for png in images.pngs()])
    pictures, others = (torch.from_numpy(p).permute(0, 3, 1, 2) for p in (painted, real))

    seen = load_judge(places.JUDGES).read(pictures / 127.5 - 1)
    right = attributes_of_captions(images.captions).agree(seen).double()
    close(records["attributes"].rows[1], right.mean(), right.std() / 12**0.5)

    words = clip.captions(images.captions)
    scores = 100 * torch.cosine_similarity(clip.pictures(pictures), words).double().clamp(min=0)
    close(records["clip_score"].rows[1], scores.mean(), scores.std() / 12**0.5)

    a, b = embed(pictures).numpy(), embed(others).numpy()
    close(
        records["kid_shapes:real"].rows[1],
        kernel_distance(a, b, matched=True),
        kernel_standard_error(a, b, matched=True),
    )


def close(row: JudgedCandidate, value: float | torch.Tensor, se: float | torch.Tensor) -> None:
    assert row.value == pytest.approx(float(value), rel=1e-5)
    assert row.se == pytest.approx(float(se), rel=1e-5)


def judged(*values: float) -> list[JudgedCandidate]:
    return [JudgedCandidate(step=10 * (i + 1), value=v, se=9.0) for i, v in enumerate(values)]


def test_the_best_value_wins_and_the_earlier_of_equal_ones() -> None:
    assert best(judged(0.2, 0.7, 0.7, 0.6), lower_is_better=False).step == 20
    assert best(judged(0.2, -0.1, 0.7, -0.1), lower_is_better=True).step == 20
    assert best(judged(5.0), lower_is_better=True).step == 10


def test_the_last_of_many_candidates_is_found_and_a_stranger_is_refused(tmp_path: Path) -> None:
    for step in (2, 10_000_000, 123_456_789):
        (tmp_path / candidate_name(step)).mkdir()
    assert [c.step for c in find_candidates(tmp_path)] == [2, 10_000_000, 123_456_789]
    (tmp_path / "step-3").mkdir()
    with pytest.raises(UserError, match=r"step-3: not a candidate, .*; run `lcm-lora distill`$"):
        find_candidates(tmp_path)
    with pytest.raises(UserError, match=r"none: holds no candidates; run `lcm-lora distill`$"):
        find_candidates(tmp_path / "none")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (layout.CANDIDATES, r"candidates: holds no candidates; run `lcm-lora distill`$"),
        (
            layout.CANDIDATES / candidate_name(1000) / WEIGHTS,
            r"step-00001000/pytorch_.*: no such file; run `lcm-lora distill`$",
        ),
        (layout.SELECTION, r"selection\.json: no such file; run `lcm-lora prepare`$"),
        (
            layout.SELECTION / "selection.tar",
            r"selection\.tar: no such .*; run `lcm-lora prepare`$",
        ),
        (
            layout.INVENTORY / "networks.json",
            r"networks\.json: no such file; run `lcm-lora inventory`$",
        ),
        (layout.INVENTORY, r"base\.json: no such file; run `lcm-lora inventory`$"),
    ],
)
def test_what_is_missing_is_one_line_and_nothing_is_written(
    untouched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Path, message: str
) -> None:
    root = tmp_path / "project"
    shutil.copytree(untouched, root, ignore=shutil.ignore_patterns("adapter", "home"))
    if (root / path).is_dir():
        shutil.rmtree(root / path)
    else:
        (root / path).unlink()
    before = {p.name for p in (root / "artifacts").iterdir()}
    monkeypatch.chdir(root)
    with pytest.raises(UserError, match=message):
        stage.run()
    assert {p.name for p in (root / "artifacts").iterdir()} == before


def test_a_candidate_of_another_base_is_refused(
    project: Path, shared: Base, tmp_path: Path
) -> None:
    found = shared.found.model_copy(update={"model": "team/other", "sha256": "f" * 64})
    other = dataclasses.replace(shared, found=found)
    with pytest.raises(UserError, match=r"distilled from shapes .* base is team/other"):
        choose(project, other, tmp_path, metric="attributes")
    assert not list(tmp_path.iterdir())
