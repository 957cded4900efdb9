"""Drift: nothing where data are the same, what it is where they are not, and the real command."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scene_shards import Save, scenes

from lcm_lora.data.shard import INDEX, ShardIndex
from lcm_lora.drift.comparison import Seen, compare
from lcm_lora.drift.draw import draw
from lcm_lora.drift.record import DriftRecord
from lcm_lora.errors import UserError
from lcm_lora.params.drift import Drift
from lcm_lora.records import read_record

PARAMS = Drift(pictures=64)
LEVEL = 0.95
ROOT = Path(__file__).parents[2]


def seen(
    seed: int, count: int = 200, shift: float = 0.0, turn: float = 0.0, fit: float = 0.0
) -> Seen:
    rng = np.random.default_rng(seed)
    return Seen(
        pictures={"net": (rng.normal(size=(count, 6)) + shift).astype(np.float32)},
        captions=(rng.normal(size=(count, 6)) + 5 * turn * np.eye(6)[0]).astype(np.float32),
        fit=(rng.normal(size=count) + fit).astype(np.float32),
    )


def test_draws_of_the_same_data_have_not_drifted() -> None:
    found = [compare(seen(2 * i), seen(2 * i + 1), PARAMS, LEVEL) for i in range(40)]
    assert not any(quantity.has_drifted for quantities in found for quantity in quantities)
    # All three intervals of a comparison hold together, 95 times of 100; 33 of 40 surely.
    covered = [all(q.low <= 0 <= q.high for q in quantities) for quantities in found]
    assert sum(covered) >= 33


@pytest.mark.parametrize(
    ("moved", "told"),
    [
        ({"shift": 1.0}, ["pictures, net"]),
        ({"turn": 1.0}, ["captions"]),
        ({"fit": 1.0}, ["fit of picture and caption"]),
        ({"fit": -1.0}, ["fit of picture and caption"]),
    ],
)
def test_what_moves_is_told_and_nothing_else(moved: dict[str, float], told: list[str]) -> None:
    quantities = compare(seen(0), seen(1, **moved), PARAMS, LEVEL)
    assert [q.name for q in quantities if q.has_drifted] == told
    record = DriftRecord(before=200, now=200, level=LEVEL, quantities=quantities)
    assert record.has_drifted
    assert all(name in record.words for name in told)


def test_values_are_shares_of_the_spread_before() -> None:
    """The fit in standard deviations; and no unit of a network's features has a say."""
    before, now = seen(0, 4000), seen(1, 4000, fit=0.7)
    assert compare(before, now, PARAMS, LEVEL)[-1].value == pytest.approx(0.7, abs=0.08)
    small = compare(before, now, PARAMS, LEVEL)[-1]
    scaled = [dataclasses.replace(side, fit=50 * side.fit) for side in (before, now)]
    assert compare(*scaled, PARAMS, LEVEL)[-1].value == pytest.approx(small.value)


def test_two_worlds_apart_lie_apart_by_their_whole_spread() -> None:
    """Of two points alone, each set all alike, the distance is past any margin."""
    one = Seen({"net": np.ones((9, 3), np.float32)}, np.ones((9, 3), np.float32), np.ones(9))
    assert not any(q.has_drifted for q in compare(one, one, PARAMS, LEVEL))
    other = dataclasses.replace(one, pictures={"net": np.full((9, 3), 2.0, np.float32)})
    assert [q.has_drifted for q in compare(one, other, PARAMS, LEVEL)] == [True, False, False]


def test_a_draw_is_a_function_of_its_seed_without_repetition(save: Save) -> None:
    folder = save("all", scenes(0, 100))
    everything = draw(folder, 1000, seed=0)
    assert everything == scenes(0, 100)
    one = draw(folder, 30, seed=1)
    assert one == draw(folder, 30, seed=1)
    assert one != draw(folder, 30, seed=2)
    places = [everything.index(sample) for sample in one]
    assert places == sorted(set(places))
    assert len(places) == 30


def test_a_draw_reads_no_shard_that_it_needs_not(save: Save) -> None:
    folder = save("all", scenes(0, 100))
    index = read_record(folder / INDEX, ShardIndex, "")
    (sample,) = draw(folder, 1, seed=0)
    number = draw(folder, 1000, seed=0).index(sample)
    others = [shard.file for i, shard in enumerate(index.shards) if i != number // 40]
    for name in others:
        (folder / name).unlink()
    assert draw(folder, 1, seed=0) == [sample]
    with pytest.raises(UserError, match=r"no such file; run"):
        draw(folder, 100, seed=0)


def test_the_command_tells_data_of_another_kind(save: Save, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from lcm_lora.cli import app

    project = tmp_path / "project"
    project.mkdir()
    text = (ROOT / "lcm_lora" / "presets" / "shapes.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("pictures: 512", "pictures: 64"))
    folders = {
        "before": save("before", scenes(0, 80)),
        "same": save("same", scenes(5000, 80)),
        "red": save("red", scenes(10000, 80, "a large red")),
        "few": save("few", scenes(0, 3)),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        assert CliRunner().invoke(app, ["inventory"]).exit_code == 0

        def run(name: str) -> tuple[int, str]:
            arguments = ["drift", str(folders["before"]), str(folders[name])]
            done = CliRunner().invoke(app, arguments)
            return done.exit_code, done.stderr

        code, said = run("same")
        assert (code, said.splitlines()[-1]) == (
            0,
            "no drift: 64 new samples are like 64 of before",
        )
        code, said = run("red")
        assert code == 0
        assert "drifted: pictures, shapes" in said
        record = json.loads((project / "artifacts" / "drift.json").read_text())
        assert record["quantities"][0]["has_drifted"]
        code, said = run("few")
        assert code == 1
        assert said.splitlines()[-1].endswith("few: 3 samples; a comparison needs 4")
        shutil.rmtree(folders["red"])
        code, said = run("red")
        assert code == 1
        assert "index.json" in said.splitlines()[-1]
