"""The laws of the table: which rows and pairs it holds, and what may not be compared."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from lcm_lora.champion_record import Champion
from lcm_lora.errors import UserError
from lcm_lora.evaluation.cells import Compared, Map
from lcm_lora.evaluation.diversity import diversity
from lcm_lora.evaluation.frechet import frechet_distance
from lcm_lora.evaluation.kernel import kernel_distance
from lcm_lora.evaluation.names import metrics_of
from lcm_lora.evaluation.scores import Pair, Table, read_table
from lcm_lora.evaluation.table import score
from lcm_lora.files import sha256, write_tensors
from lcm_lora.params.generate import Cell, Generate
from lcm_lora.params.score import Score
from lcm_lora.records import write_record
from lcm_lora.seeing.set_records import FeatureRecord

N, D = 64, 6
SCORE = Score.model_validate({"networks": {"shapes": {"kind": "shapes"}}})
GENERATE = Generate.model_validate(
    {
        "adapter": {"sampler": "lcm", "cells": [{"steps": 2, "guidance": 1}]},
        "painters": {
            name: {"sampler": "ddim", "cells": [{"steps": 2, "guidance": 1}]}
            for name in ("teacher", "ddim", "released")
        },
    }
)
CELLS = [
    ("teacher", Cell(steps=50, guidance=3), 0.1),
    ("teacher", Cell(steps=50, guidance=3, seeds=1), 0.1),
    ("teacher", Cell(steps=25, guidance=3, seeds=2), 0.4),
    ("ddim", Cell(steps=2, guidance=3), 1.0),
    ("ddim", Cell(steps=4, guidance=1), 1.2),
    ("released", Cell(steps=4, guidance=1), 0.3),
    ("adapter", Cell(steps=2, guidance=1), 0.3),
    ("adapter", Cell(steps=2, guidance=1.5), 2.0),
    ("adapter", Cell(steps=4, guidance=1), 0.15),
    ("adapter", Cell(steps=4, guidance=1, seeds=1), 0.15),
    ("champion", Cell(steps=2, guidance=1), 0.3),
    ("champion", Cell(steps=2, guidance=1.5), 2.0),
    ("champion", Cell(steps=4, guidance=1), 0.8),
    ("champion", Cell(steps=4, guidance=1, seeds=1), 0.8),
]
CHAMPION = Champion(version="toy version 3", weights_sha256="w")
ARRAYS = {
    name: {"name": name, "sha256": name[0], "preprocessing": "p"}
    for name in ("features/shapes", "clip", "attributes")
}


def draw(painter: str, cell: Cell, noise: float) -> dict[str, Any]:
    prompts = np.random.default_rng(0).normal(size=(N, D))
    # The champion at two steps paints what the adapter does.
    name = "adapter" if cell.steps == 2 and painter == "champion" else painter
    rng = np.random.default_rng((len(name), cell.steps, cell.seeds, round(100 * noise)))
    return {
        "features/shapes": ((1 + noise) * prompts + noise * rng.normal(size=(N, D))),
        "clip": 30 - noise + rng.normal(size=N),
        "attributes": (rng.random(N) > 0.1 + 0.2 * min(noise, 2)).astype(float),
    }


def write(path: Path, values: dict[str, Any], **about: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: torch.from_numpy(v.astype(np.float32)) for name, v in values.items()}
    write_tensors(path, tensors, {})
    usual = {
        "subject_sha256": "s",
        "sampler": "ddim",
        "captions_sha256": "captions",
        "images_sha256": path.stem,
        "arrays": ARRAYS,
        "sha256": sha256(path),
    }
    write_record(path.with_suffix(".json"), FeatureRecord.model_validate(usual | about))


def write_cell(folder: Path, painter: str, cell: Cell, noise: float, **about: Any) -> None:
    path = folder / painter / f"{cell.name}.safetensors"
    who = cell.model_dump() | {"painter": painter, "nfe": cell.nfe}
    write(path, draw(painter, cell, noise), **who | about)


def write_real(folder: Path, **about: Any) -> None:
    for name, captions in (("real", "captions"), ("reference", "others")):
        none = {"steps": 0, "guidance": 0.0, "seeds": 0, "nfe": 0}
        who = {"painter": "real", "subject_sha256": None, "sampler": None}
        arrays = draw(name, Cell(steps=1, guidance=1), 0.0 if name == "real" else 0.05)
        path = folder / "real" / f"{name}.safetensors"
        write(path, arrays, captions_sha256=captions, **who, **none, **about)


@pytest.fixture
def features(tmp_path: Path) -> Path:
    folder = tmp_path / "features"
    write_real(folder)
    for painter, cell, noise in CELLS:
        write_cell(folder, painter, cell, noise)
    return folder


def make(features: Path, champion: Champion | None = CHAMPION, **params: Any) -> Table:
    out = features.parent / "scores" / "scores.json"
    score(SCORE.model_copy(update=params), Compared.of(GENERATE, features), champion, out)
    return read_table(out)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Table]:
    folder = tmp_path_factory.mktemp("made") / "features"
    write_real(folder)
    for painter, cell, noise in CELLS:
        write_cell(folder, painter, cell, noise)
    return folder, make(folder)


def values(folder: Path, cell: str, array: str = "features/shapes") -> Any:
    return load_file(folder / f"{cell}.safetensors")[array].astype(np.float64)


def test_every_cell_has_every_metric_that_says_something_of_it(made: tuple[Path, Table]) -> None:
    table = made[1]
    metrics = {metric.name for metric in metrics_of(SCORE, several_noises=True)}
    assert {metric.name for metric in table.metrics} == metrics
    teacher = {name for name in metrics if name.endswith(":teacher")}
    diverse = {"diversity_shapes"}
    several = {"adapter/steps-4_guidance-1", "teacher/steps-50_guidance-3"}
    for cell in table.cells:
        found = {row.metric for row in table.rows if row.cell == cell.id}
        expected = metrics - diverse
        if cell.id.replace("champion", "adapter") in several:
            expected = metrics
        if cell.painter != "real" and cell.seeds == 1:
            expected = expected - teacher - diverse
        assert found == expected, cell.id
    assert all(row.n == N and row.se >= 0 for row in table.rows)


def test_cells_come_in_the_order_of_tables(made: tuple[Path, Table]) -> None:
    painters = list(dict.fromkeys(cell.painter for cell in made[1].cells))
    assert painters == ["real", "teacher", "ddim", "released", "adapter", "champion"]
    places = [(c.steps, c.guidance, c.seeds) for c in made[1].cells_of("adapter")]
    assert places == sorted(places)


def test_values_are_those_of_the_features(made: tuple[Path, Table]) -> None:
    folder, table = made
    own, real = values(folder, "adapter/steps-4_guidance-1"), values(folder, "real/reference")
    teacher = values(folder, "teacher/steps-50_guidance-3_seeds-1")
    again = values(folder, "adapter/steps-4_guidance-1_seeds-1")
    expected = {
        "fd_shapes:real": frechet_distance(own, real),
        "fd_shapes:teacher": frechet_distance(own, teacher),
        "kid_shapes:real": kernel_distance(own, real),
        "kid_shapes:teacher": kernel_distance(own, teacher, matched=True),
        "diversity_shapes": diversity([own, again]).mean(),
    }
    for metric, value in expected.items():
        row = table.row("adapter/steps-4_guidance-1", metric)
        assert row is not None
        assert row.value == pytest.approx(value, rel=1e-9)


def test_the_teacher_is_its_pictures_of_other_noises_and_most_evaluations(
    made: tuple[Path, Table],
) -> None:
    folder, table = made
    assert table.protocol.teacher == "teacher/steps-50_guidance-3_seeds-1"
    floor = table.row("teacher/steps-50_guidance-3", "kid_shapes:teacher")
    assert floor is not None
    one, other = (values(folder, f"teacher/steps-50_guidance-3{s}") for s in ("", "_seeds-1"))
    assert floor.value == pytest.approx(kernel_distance(one, other, matched=True), rel=1e-9)


def test_pairs_are_the_champions_cells_and_rivals_of_equal_evaluations(
    made: tuple[Path, Table],
) -> None:
    """One more cell of the adapter, of equal cost and worse, changes no other pair."""
    found = {(p.a, p.b, p.against) for p in made[1].pairs if p.metric == "kid_shapes:real"}
    names = ["2_guidance-1", "2_guidance-1.5", "4_guidance-1", "4_guidance-1_seeds-1"]
    assert found == {
        *((f"adapter/steps-{n}", f"champion/steps-{n}", "champion") for n in names),
        ("adapter/steps-4_guidance-1", "ddim/steps-2_guidance-3", "rival"),
        ("adapter/steps-4_guidance-1", "ddim/steps-4_guidance-1", "rival"),
        ("adapter/steps-4_guidance-1", "released/steps-4_guidance-1", "rival"),
        ("adapter/steps-2_guidance-1.5", "ddim/steps-2_guidance-3", "rival"),
        ("adapter/steps-2_guidance-1.5", "ddim/steps-4_guidance-1", "rival"),
        ("adapter/steps-2_guidance-1.5", "released/steps-4_guidance-1", "rival"),
    }


def test_the_teacher_is_compared_where_it_is_asked_for_and_changes_no_other_pair(
    made: tuple[Path, Table],
) -> None:
    """Of the same noise and of most evaluations, whatever the adapter's."""
    compared = Compared.of(GENERATE, made[0])
    asked = replace(compared, with_teacher=True)
    out = made[0].parent / "asked" / "scores.json"
    score(SCORE, asked, CHAMPION, out)
    pairs = read_table(out).pairs
    assert [pair for pair in pairs if pair.against != "teacher"] == list(made[1].pairs)
    own = [pair for pair in pairs if pair.against == "teacher" and pair.metric == "clip_score"]
    steps = {("2_guidance-1", ""), ("2_guidance-1.5", ""), ("4_guidance-1", "")}
    found = {(pair.a, pair.b) for pair in own}
    assert found >= {
        (f"adapter/steps-{how}", f"teacher/steps-50_guidance-3{seeds}") for how, seeds in steps
    }
    for pair in own:
        width = NormalDist().inv_cdf(1 - 0.05 / 2 / len(own))
        assert pair.high - pair.difference == pytest.approx(width * pair.se, abs=1e-9)
        a, b = values(made[0], pair.a, "clip"), values(made[0], pair.b, "clip")
        assert pair.difference == pytest.approx((a - b).mean(), rel=1e-6)


@pytest.mark.parametrize("whole", ["mix-100-100", "adapter"])
def test_points_of_a_map_are_compared_with_weights_of_1_and_change_no_other_pair(
    whole: str, made: tuple[Path, Table], tmp_path: Path
) -> None:
    """Which the adapter's own cell has too; and what is real says nothing of them."""
    shutil.copytree(made[0], tmp_path / "features")
    points = {"mix-0-100": 2.0, "mix-50-100": 0.5} | ({whole: 0.1} if whole != "adapter" else {})
    for point, noise in points.items():
        write_cell(tmp_path / "features", point, Cell(steps=4, guidance=1.0), noise)
    compared = Compared.of(GENERATE, tmp_path / "features")
    painters = (*compared.painters, *points)
    wanted = Map(frozenset(points), whole)
    score(SCORE, replace(compared, painters=painters, map=wanted), CHAMPION, tmp_path / "s" / "it")
    table = read_table(tmp_path / "s" / "it")
    assert [pair for pair in table.pairs if pair.against != "map"] == list(made[1].pairs)
    own = [pair for pair in table.pairs if pair.against == "map"]
    cells = {f"{point}/steps-4_guidance-1": point for point in points if point != whole}
    for metric in table.metrics:
        pairs = [pair for pair in own if pair.metric == metric.name]
        told = metric.reference != "real" and metric.kind != "diversity"  # of one noise
        assert {pair.a for pair in pairs} == ({*cells} if told else set())
        assert {pair.b for pair in pairs} <= {f"{whole}/steps-4_guidance-1"}
        assert all((table.row(cell, metric.name) is not None) == told for cell in cells)
    for pair in own:
        width = NormalDist().inv_cdf(1 - 0.05 / 2 / len(cells))
        assert pair.high - pair.difference == pytest.approx(width * pair.se, abs=1e-9)
    by_clip = {cells[pair.a]: pair.verdict for pair in own if pair.metric == "clip_score"}
    assert by_clip["mix-0-100"] == "worse"


def test_differences_are_of_values_without_their_biases(made: tuple[Path, Table]) -> None:
    table = made[1]
    for pair in table.pairs:
        a, b = table.row(pair.a, pair.metric), table.row(pair.b, pair.metric)
        assert a is not None
        assert b is not None
        expected = (a.value - a.bias) - (b.value - b.bias)
        assert pair.difference == pytest.approx(expected, rel=1e-6, abs=1e-6)
        assert (a.bias != 0) == (table.metric(pair.metric).kind == "fd")


def test_intervals_of_a_family_hold_together(made: tuple[Path, Table]) -> None:
    families: dict[tuple[str, str], list[Pair]] = {}
    for pair in made[1].pairs:
        families.setdefault((pair.metric, pair.against), []).append(pair)
    for family in families.values():
        width = NormalDist().inv_cdf(1 - 0.05 / 2 / len(family))
        for pair in family:
            assert pair.high - pair.difference == pytest.approx(width * pair.se, abs=1e-9)
            assert pair.difference - pair.low == pytest.approx(width * pair.se, abs=1e-9)


def test_verdicts_need_the_whole_interval_on_one_side(made: tuple[Path, Table]) -> None:
    table = made[1]
    for pair in table.pairs:
        good, bad = pair.high < 0, pair.low > 0
        if not table.metric(pair.metric).lower_is_better:
            good, bad = bad, good
        told = "better" if good else "worse" if bad else "level"
        assert pair.verdict == (told if pair.is_decisive else "level")
    better = table.pair(
        "kid_shapes:real", "adapter/steps-4_guidance-1", "champion/steps-4_guidance-1"
    )
    assert better is not None
    assert better.verdict == "better"


def test_a_champion_that_differs_in_nothing_is_level(made: tuple[Path, Table]) -> None:
    same = [p for p in made[1].pairs if p.against == "champion" and "steps-2" in p.a]
    assert {(p.difference, p.low, p.high, p.verdict) for p in same} == {(0, 0, 0, "level")}
    assert {p.metric for p in same} == {
        metric.name for metric in metrics_of(SCORE, several_noises=False)
    }


def test_the_headline_has_no_bias_where_few_pictures_would_mislead(
    made: tuple[Path, Table], tmp_path: Path
) -> None:
    """64 pictures are more than ten a dimension of 6, and fewer than ten of 12."""
    assert made[1].headline.name == "fd_shapes:real"
    shutil.copytree(made[0], tmp_path / "features")
    for path in (tmp_path / "features").rglob("*.safetensors"):
        found = load_file(path)
        found["features/shapes"] = np.hstack([found["features/shapes"]] * 2)
        about = json.loads(path.with_suffix(".json").read_text())
        write(path, found, **{name: value for name, value in about.items() if name != "sha256"})
    assert make(tmp_path / "features").headline.name == "kid_shapes:real"


def test_without_a_champion_nothing_is_compared_with_it(features: Path) -> None:
    shutil.rmtree(features / "champion")
    table = make(features, champion=None)
    assert table.champion is None
    assert {pair.against for pair in table.pairs} == {"rival"}
    (features / "champion").mkdir()
    assert make(features, champion=None) == table


def test_same_features_give_the_same_bytes(made: tuple[Path, Table]) -> None:
    folder, table = made
    scores = folder.parent / "scores"
    before = {path.name: path.read_bytes() for path in scores.iterdir()}
    assert make(folder) == table
    assert {path.name: path.read_bytes() for path in scores.iterdir()} == before
    assert before.keys() == {"scores.json", "metrics.json", "curves.csv"}


def test_the_protocol_is_named_by_all_that_it_holds(made: tuple[Path, Table]) -> None:
    protocol = made[1].protocol.model_dump(mode="json")
    identity = protocol.pop("sha256")
    assert hashlib.sha256(json.dumps(protocol, sort_keys=True).encode()).hexdigest() == identity
    assert protocol.pop("code_sha256")
    arrays = protocol.pop("arrays")
    assert {name: network["sha256"] for name, network in arrays.items()} == {
        name: network["sha256"] for name, network in ARRAYS.items()
    }
    assert protocol == {
        "n": N,
        "captions_sha256": "captions",
        "real_sha256": "reference",
        "teacher_sha256": "steps-50_guidance-3_seeds-1",
        "teacher": "teacher/steps-50_guidance-3_seeds-1",
        "level": 0.95,
        "seed": 0,
        "looked_sha256": "",
    }


def test_metrics_and_curves_are_the_rows(made: tuple[Path, Table]) -> None:
    folder, table = made
    nested = json.loads((folder.parent / "scores" / "metrics.json").read_text())
    row = table.row("ddim/steps-4_guidance-1", "clip_score")
    assert row is not None
    assert nested["ddim"]["steps-4_guidance-1"]["clip_score"] == row.value
    assert sum(len(cell) for painter in nested.values() for cell in painter.values()) == len(
        table.rows
    )
    with (folder.parent / "scores" / "curves.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(table.rows)
    assert set(lines[0]) == {
        "painter", "guidance", "seeds", "steps", "nfe", "metric", "value", "low", "high"
    }  # fmt: skip
    (line,) = (
        x
        for x in lines
        if (x["painter"], x["steps"], x["metric"], x["guidance"])
        == ("ddim", "4", "clip_score", "1.0")
    )
    assert float(line["high"]) == pytest.approx(row.value + 1.96 * row.se, abs=1e-3)


@pytest.mark.parametrize(
    ("record", "what"),
    [
        ({"arrays": ARRAYS | {"clip": {"name": "other", "sha256": "x"}}}, "networks"),
        ({"captions_sha256": "x"}, "captions"),
    ],
)
def test_what_was_measured_otherwise_is_refused(
    features: Path, record: dict[str, Any], what: str
) -> None:
    write_cell(features, "ddim", Cell(steps=4, guidance=1), 1.0, **record)
    with pytest.raises(UserError, match=f"ddim/steps-4_guidance-1: its {what} are not"):
        make(features)


def test_other_numbers_of_pictures_are_refused(features: Path) -> None:
    path = features / "ddim" / "steps-4_guidance-1.safetensors"
    arrays = {k: v[:-1] for k, v in draw("ddim", Cell(steps=4, guidance=1), 1.0).items()}
    about = {"painter": "ddim", "steps": 4, "guidance": 1.0, "seeds": 0, "nfe": 4}
    write(path, arrays, **about)
    with pytest.raises(UserError, match="63 pictures, and the real ones are 64"):
        make(features)


def test_features_that_are_no_numbers_are_named(features: Path) -> None:
    path = features / "ddim" / "steps-4_guidance-1.safetensors"
    arrays = draw("ddim", Cell(steps=4, guidance=1), 1.0)
    arrays["features/shapes"][3, 2] = np.nan
    write(path, arrays, painter="ddim", steps=4, guidance=1.0, seeds=0, nfe=4)
    with pytest.raises(UserError, match=r"ddim/steps-4_guidance-1.*features/shapes is not finite"):
        make(features)


@pytest.mark.parametrize("gone", ["*seeds*", "*seeds-1*"])
def test_a_teacher_whose_best_has_no_other_noises_is_refused(gone: str, features: Path) -> None:
    """Fewer steps from other noises do not stand for it."""
    for path in (features / "teacher").glob(gone):
        path.unlink()
    with pytest.raises(UserError, match=r"features/teacher: its cell of most evaluations is not"):
        make(features)


def test_what_features_did_not_measure_is_refused(features: Path) -> None:
    plugins = Score.model_validate(
        SCORE.model_dump() | {"plugins": {"taste": {"command": ["taste"]}}}
    ).plugins
    with pytest.raises(UserError, match="score: taste was not measured; run"):
        make(features, plugins=plugins)


def test_missing_features_are_named(features: Path) -> None:
    (features / "real" / "real.safetensors").unlink()
    with pytest.raises(UserError, match="run `lcm-lora features real`"):
        make(features)


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_a_set_of_which_half_is_missing_is_named(suffix: str, features: Path) -> None:
    (features / "ddim" / f"steps-4_guidance-1.{suffix}").unlink()
    lost = rf"steps-4_guidance-1\.{suffix}: no such file; run `lcm-lora features ddim`"
    with pytest.raises(UserError, match=lost):
        make(features)


def test_a_painter_without_features_is_named(features: Path) -> None:
    shutil.rmtree(features / "released")
    with pytest.raises(UserError, match="released: holds no features; run `lcm-lora features rel"):
        make(features)


def test_features_of_another_painter_are_refused(features: Path) -> None:
    shutil.copytree(features / "ddim", features / "released", dirs_exist_ok=True)
    with pytest.raises(UserError, match="is of ddim, not of released; run `lcm-lora features rel"):
        make(features)


def test_a_broken_file_of_features_or_scores_is_named(features: Path) -> None:
    (features / "ddim" / "steps-4_guidance-1.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match=r"damaged, not as its record says"):
        make(features)
    scores = features.parent / "scores.json"
    with pytest.raises(UserError, match="no such file"):
        read_table(scores)
    scores.write_text('{"rows": 3}')
    with pytest.raises(UserError, match=r"damaged \(The table of scores; .*run `lcm-lora score`"):
        read_table(scores)
