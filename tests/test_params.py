"""Parameters: presets that hold, and wrong ones that are named in one line."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from lcm_lora.errors import UserError
from lcm_lora.params import SAMPLERS, Cell, load_params, parse_params

ROOT = Path(__file__).parent.parent
PRESETS = sorted((ROOT / "lcm_lora" / "presets").glob("*.yaml"))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_holds(path: Path) -> None:
    params = load_params(path)
    assert 1000 % params.distill.grid == 0
    assert params.prepare.resolution % 8 == 0
    # The adapter and every solver meet at equal cost, which the paired comparison needs.
    costs = {name: {cell.nfe for cell in params.generate.cells[name]} for name in SAMPLERS}
    assert {1, 2, 4} <= costs["lcm"] & costs["ddim"] & costs["dpmpp"] & costs["unipc"]


def test_the_project_starts_with_the_shapes_preset() -> None:
    assert (ROOT / "params.yaml").read_text() == (
        ROOT / "lcm_lora" / "presets" / "shapes.yaml"
    ).read_text()


def test_dvc_lists_the_samplers_that_the_parameters_know() -> None:
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    assert set(stages["features"]["matrix"]["sampler"]) == set(SAMPLERS)
    assert {*stages["generate"]["matrix"]["sampler"], "lcm"} == set(SAMPLERS)


WRONG: list[tuple[Callable[[Any], object], str]] = [
    (
        lambda p: p["distill"].update(lerning_rate=1),
        r"distill\.lerning_rate: no such parameter; did you mean `learning_rate`\?",
    ),
    (lambda p: p["distill"].update(steps="3"), r"distill\.steps: .*integer; got \"3\""),
    (lambda p: p["distill"].update(steps=0), r"distill\.steps: .*greater than or equal to 1"),
    (lambda p: p["distill"].update(accumulation=7), "accumulation 7 does not divide batch"),
    (lambda p: p["distill"]["guidance"].update(low=9.0), "low 9.0 is above high"),
    (lambda p: p["distill"]["guidance"].update(convention="cfg"), "convention: .*'imagen'"),
    (lambda p: p.pop("base"), "base: Field required"),
    (lambda p: p["generate"]["cells"].pop("ddim"), "cells of ddim are missing"),
    (lambda p: p["prepare"].update(source={"kind": "foldr"}), "prepare.source: .*foldr"),
    (lambda p: p["prepare"].update(resolution=33), "resolution: .*multiple of 8"),
    (lambda p: p["prepare"].update(held_out=1.5), "held_out: .*less than 1"),
]


@pytest.mark.parametrize(("spoil", "message"), WRONG)
def test_a_wrong_parameter_is_named_in_one_line(
    spoil: Callable[[Any], object], message: str
) -> None:
    raw = copy.deepcopy(YAML(typ="safe").load(ROOT / "params.yaml"))
    spoil(raw)
    with pytest.raises(UserError, match=message) as error:
        parse_params(raw, "params.yaml")
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("params.yaml: ")


def test_a_missing_or_broken_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; `lcm-lora params shapes"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: [1, 2")
    with pytest.raises(UserError, match="not valid YAML"):
        load_params(tmp_path / "params.yaml")


def test_numbers_read_as_dvc_reads_them(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "p.yaml").write_text(text.replace("huber_c: 0.001", "huber_c: 1e-3"))
    assert load_params(tmp_path / "p.yaml").distill.huber_c == 1e-3


def test_sections_are_frozen() -> None:
    params = load_params(ROOT / "params.yaml")
    with pytest.raises(ValidationError, match="frozen"):
        params.distill.steps = 1  # type: ignore[misc]


@pytest.mark.parametrize(("guidance", "nfe"), [(0.0, 4), (1.0, 4), (1.5, 8), (7.5, 8)])
def test_guidance_above_one_doubles_the_cost(guidance: float, nfe: int) -> None:
    assert Cell(steps=4, guidance=guidance).nfe == nfe
