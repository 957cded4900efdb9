"""The laws of the table: which rows and pairs it holds, and what may not be compared."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lcm_lora.errors import UserError
from lcm_lora.evaluation.frechet import frechet_distance
from lcm_lora.evaluation.names import INCEPTION, adapter_metrics
from lcm_lora.evaluation.set_records import FeatureRecord
from lcm_lora.evaluation.table import load_table, score
from lcm_lora.files import sha256, write_tensors
from lcm_lora.params.generate import Cell
from lcm_lora.params.score import Score
from lcm_lora.records import write_record

N, D = 40, 6
CELLS = [
    ("teacher", Cell(steps=50, guidance=3.0), 0.1),
    ("teacher", Cell(steps=50, guidance=3.0, seeds=1), 0.1),
    ("lcm", Cell(steps=2, guidance=1.0), 0.2),
    ("lcm", Cell(steps=4, guidance=1.0), 0.15),
    ("ddim", Cell(steps=2, guidance=3.0), 1.0),
    ("ddim", Cell(steps=4, guidance=1.0), 1.2),
    ("dpmpp", Cell(steps=4, guidance=3.0), 0.5),
    ("unipc", Cell(steps=1, guidance=3.0), 2.0),
]


def draw(sampler: str, seed: int, noise: float) -> dict[str, Any]:
    prompts = np.random.default_rng(0).normal(size=(N, D))
    rng = np.random.default_rng((len(sampler), seed, round(100 * noise)))
    return {
        "features": ((1 + noise) * prompts + noise * rng.normal(size=(N, D))).astype(np.float32),
        "clip": rng.uniform(20, 90, N).astype(np.float32) / np.float32(1 + noise),
        "attributes": (rng.uniform(size=N) > noise / 2).astype(np.uint8),
    }


def write(path: Path, tensors: dict[str, Any], **record: Any) -> None:
    write_tensors(path, {name: torch.from_numpy(values) for name, values in tensors.items()})
    about = {
        "steps": 0,
        "guidance": 0.0,
        "nfe": 0,
        "seeds": 0,
        "ms_per_image": None,
        "captions_sha256": "captions",
        "images_sha256": "images",
        "network": {"name": "shapes", "sha256": "f", "preprocessing": "p"},
        "clip": {"name": "shapes", "sha256": "c"},
    }
    found = FeatureRecord.model_validate(about | record | {"sha256": sha256(path)})
    write_record(path.with_suffix(".json"), found)


def write_cell(folder: Path, sampler: str, cell: Cell, noise: float, **record: Any) -> None:
    tensors = draw(sampler, cell.seeds + 7 * cell.steps, noise)
    about = cell.model_dump() | {"sampler": sampler, "nfe": cell.nfe, "ms_per_image": 3.5} | record
    write(folder / sampler / f"{cell.name}.safetensors", tensors, **about)


def write_real(folder: Path, **record: Any) -> None:
    real, others = draw("real", 0, 0.02), {"captions_sha256": "others"}
    write(folder / "real" / "real.safetensors", real, sampler="real", **record)
    reference = draw("real", 0, 0.0)
    write(folder / "real" / "reference.safetensors", reference, sampler="real", **record, **others)


@pytest.fixture
def features(tmp_path: Path) -> Path:
    folder = tmp_path / "features"
    write_real(folder)
    for sampler, cell, noise in CELLS:
        write_cell(folder, sampler, cell, noise)
    return folder


def make(features: Path, **params: Any) -> Any:
    out = features.parent / "scores.json"
    score(Score(resamples=50, **params), features, out)
    return load_table(out)


def test_every_set_has_a_row_for_every_metric_that_says_something(features: Path) -> None:
    table = make(features)
    full = {
        "fd_shapes:real",
        "kid_shapes:real",
        "fd_shapes:teacher",
        "kid_shapes:teacher",
        "clip_score",
        "attributes",
    }
    for sampler, cell, _ in CELLS:
        rows = table.select(sampler=sampler, **cell.model_dump())
        is_reference = sampler == "teacher" and cell.seeds == 0
        expected = {m for m in full if not (is_reference and m.endswith(":teacher"))}
        assert {row.metric for row in rows} == expected
        assert {row.nfe for row in rows} == {cell.nfe}
        assert {row.ms for row in rows} == {3.5}
        assert {row.n for row in rows} == {N}
        assert all(row.se > 0 for row in rows if row.metric != "attributes")
    floor = {m for m in full if not m.endswith(":teacher")}
    assert {row.metric for row in table.select(sampler="real")} == floor
    # What the check of the gate takes for possible is what there is.
    adapter = {row.metric for row in table.select(sampler="lcm")}
    assert adapter == set(adapter_metrics("shapes", attributes=True))


def test_values_are_those_of_the_features(features: Path) -> None:
    table = make(features)
    (row,) = table.select(sampler="lcm", steps=4, metric="fd_shapes:real")
    expected = frechet_distance(draw("lcm", 28, 0.15)["features"], draw("real", 0, 0.0)["features"])
    assert row.value == pytest.approx(expected, rel=1e-12)
    (row,) = table.select(sampler="lcm", steps=4, metric="attributes")
    assert row.value == draw("lcm", 28, 0.15)["attributes"].mean()


def test_pairs_are_the_adapter_against_solvers_of_equal_evaluations(features: Path) -> None:
    table = make(features)
    found = {
        (p.nfe, p.a.sampler, p.a.steps, p.b.sampler, p.b.steps, p.b.guidance) for p in table.paired
    }
    assert found == {
        (2, "lcm", 2, "unipc", 1, 3.0),
        (4, "lcm", 4, "ddim", 2, 3.0),
        (4, "lcm", 4, "ddim", 4, 1.0),
    }
    assert {p.metric for p in table.paired} == {
        "fd_shapes:real",
        "fd_shapes:teacher",
        "clip_score",
        "attributes",
    }
    for pair in table.paired:
        (a,) = table.select(metric=pair.metric, **pair.a.model_dump())
        (b,) = table.select(metric=pair.metric, **pair.b.model_dump())
        assert pair.difference == a.value - b.value
        assert pair.low < pair.difference < pair.high


def test_better_needs_the_whole_interval_on_the_good_side(features: Path) -> None:
    pairs = make(features).paired
    for pair in pairs:
        good = pair.high < 0 if pair.metric.startswith("fd") else pair.low > 0
        assert pair.better == good
    assert any(pair.better for pair in pairs if pair.metric == "fd_shapes:real")


def test_a_sampler_that_differs_in_nothing_is_not_better(features: Path) -> None:
    tensors = draw("lcm", 28, 0.15)
    cell = Cell(steps=4, guidance=1.0)
    about = cell.model_dump() | {"sampler": "ddim", "nfe": 4}
    write(features / "ddim" / f"{cell.name}.safetensors", tensors, **about)
    same = [p for p in make(features).paired if p.b.steps == 4]
    assert {(p.difference, p.low, p.high, p.better) for p in same} == {(0, 0, 0, False)}


def test_same_features_give_the_same_bytes_and_the_protocol_names_the_set(features: Path) -> None:
    first = make(features)
    content = (features.parent / "scores.json").read_bytes()
    assert make(features) == first
    assert (features.parent / "scores.json").read_bytes() == content
    assert make(features, seed=1).protocol["sha256"] != first.protocol["sha256"]
    assert first.protocol["reference"]["teacher"] == {"steps": 50, "guidance": 3.0, "seeds": 0}
    assert first.protocol["n"] == N


def test_the_protocol_is_named_by_its_own_hash(features: Path) -> None:
    protocol = dict(make(features).protocol)
    identity = protocol.pop("sha256")
    assert hashlib.sha256(json.dumps(protocol, sort_keys=True).encode()).hexdigest() == identity
    assert protocol == {
        "n": N,
        "features": {"name": "shapes", "sha256": "f", "preprocessing": "p"},
        "clip": {"name": "shapes", "sha256": "c"},
        "attributes": True,
        "resamples": 50,
        "seed": 0,
        "captions_sha256": "captions",
        "reference": {
            "real": "images",
            "teacher": {"steps": 50, "guidance": 3.0, "seeds": 0},
        },
    }


def test_only_the_2015_inception_is_called_fid(features: Path) -> None:
    network = {"name": INCEPTION, "sha256": "f", "preprocessing": "p"}
    shutil.rmtree(features)
    write_real(features, network=network)
    for sampler, cell, noise in CELLS:
        write_cell(features, sampler, cell, noise, network=network)
    table = make(features)
    names = {row.metric for row in table.rows}
    assert names == {
        "fid:real",
        "fid:teacher",
        "kid:real",
        "kid:teacher",
        "clip_score",
        "attributes",
    }
    assert {p.metric for p in table.paired} == names - {"kid:real", "kid:teacher"}


@pytest.mark.parametrize(
    ("record", "what"),
    [
        ({"network": {"name": "shapes", "sha256": "x", "preprocessing": "p"}}, "feature networks"),
        ({"clip": {"name": "shapes", "sha256": "x"}}, "CLIP networks"),
        ({"captions_sha256": "x"}, "captions"),
    ],
)
def test_what_was_measured_otherwise_is_refused(
    features: Path, record: dict[str, Any], what: str
) -> None:
    write_cell(features, "ddim", Cell(steps=4, guidance=1.0), 1.0, **record)
    with pytest.raises(UserError, match=f"ddim at 4 steps, guidance 1: its {what} are not"):
        make(features)


def test_other_numbers_of_pictures_are_refused(features: Path) -> None:
    tensors = {name: values[:-1] for name, values in draw("ddim", 0, 1.0).items()}
    cell = Cell(steps=4, guidance=1.0)
    about = cell.model_dump() | {"sampler": "ddim", "nfe": 4}
    write(features / "ddim" / f"{cell.name}.safetensors", tensors, **about)
    with pytest.raises(UserError, match="its numbers of pictures are not"):
        make(features)


def test_a_missing_reference_is_named(features: Path) -> None:
    for suffix in ("json", "safetensors"):
        (features / "teacher" / f"steps-50_guidance-3.{suffix}").unlink()
    with pytest.raises(UserError, match="holds no image set with seeds 0"):
        make(features)
    (features / "real" / "real.safetensors").unlink()
    with pytest.raises(UserError, match="run `lcm-lora features real`"):
        make(features)


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_a_set_of_which_half_is_missing_is_named(suffix: str, features: Path) -> None:
    (features / "ddim" / f"steps-4_guidance-1.{suffix}").unlink()
    lost = rf"steps-4_guidance-1\.{suffix}: no such file; run `lcm-lora features ddim`"
    with pytest.raises(UserError, match=lost):
        make(features)


def test_a_sampler_without_features_is_named(features: Path) -> None:
    shutil.rmtree(features / "unipc")
    with pytest.raises(UserError, match=r"unipc: holds no features; run `lcm-lora features unipc`"):
        make(features)


def test_features_of_another_sampler_are_refused(features: Path) -> None:
    shutil.copytree(features / "ddim", features / "unipc", dirs_exist_ok=True)
    with pytest.raises(UserError, match=r"is of ddim, not of unipc; run `lcm-lora features unipc`"):
        make(features)


def test_a_broken_file_of_features_or_scores_is_named(features: Path) -> None:
    (features / "ddim" / "steps-4_guidance-1.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match=r"damaged, not as its record says"):
        make(features)
    scores = features.parent / "scores.json"
    with pytest.raises(UserError, match="no such file"):
        load_table(scores)
    scores.write_text('{"rows": 3}')
    with pytest.raises(UserError, match=r"damaged \(The table of scores; .*run `lcm-lora score`"):
        load_table(scores)
