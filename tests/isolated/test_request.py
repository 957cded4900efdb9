"""What may be asked for, and what becomes of the text of params.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_project import PRESET

from flows import command
from lcm_lora.errors import UserError
from lcm_lora.params.file import load_params
from tasks.isolated.request import Request, overridden, value_of


def test_overrides_change_their_values_and_no_other_letter(tmp_path: Path) -> None:
    text = PRESET.read_text()
    path = tmp_path / "params.yaml"
    path.write_text(
        overridden(
            text,
            {
                "distill.steps": 7,
                "distill.checkpoints": "s3://bucket/a: 'b'",
                "generate.adapter.cells": [{"steps": 2, "guidance": 1.0, "seeds": 0}],
            },
        )
    )
    params = load_params(path)
    assert params.distill.steps == 7
    assert params.distill.checkpoints == "s3://bucket/a: 'b'"
    assert [cell.steps for cell in params.generate.adapter.cells] == [2]
    assert overridden(text, {}) == text
    changed = overridden(text, {"distill.steps": 7}).splitlines()
    assert sum(a != b for a, b in zip(text.splitlines(), changed, strict=True)) == 1
    empty = "a:\n  b:  # a comment\n  c: 1\n"
    assert overridden(empty, {"a.b": [1]}) == "a:\n  b: [1]  # a comment\n  c: 1\n"


@pytest.mark.parametrize("name", ["distill.stepz", "distill.steps.x", "", "distill.", "nothing"])
def test_an_override_of_nothing_is_one_line(name: str) -> None:
    with pytest.raises(UserError, match=f"^override {name}: params.yaml has no such parameter"):
        overridden(PRESET.read_text(), {name: 1})


def test_values_are_read_as_params_yaml_would() -> None:
    read = [value_of("x", text) for text in ("400", "1e-4", "true", "null", "[1, 2]", "a b")]
    assert read == [400, 1e-4, True, None, [1, 2], "a b"]
    for text in ("{", "2020-01-01"):
        with pytest.raises(UserError, match="no value of a parameter"):
            value_of("x", text)


def test_arguments_are_a_request() -> None:
    asked = ["--isolated", "--revision", "v1", "--set", "distill.steps=9", "--why", "curious"]
    assert command.request("flows.retrain", asked) == Request(
        workspace="isolated", revision="v1", overrides={"distill.steps": 9}, why="curious"
    )
    assert command.request("flows.retrain", []) == Request()


@pytest.mark.parametrize("asked", [["--revision", "v1"], ["--set", "distill.steps=9"]])
def test_a_shared_workspace_is_what_it_is(asked: list[str]) -> None:
    with pytest.raises(UserError, match="a shared workspace runs the folder as it is"):
        command.request("flows.retrain", asked)
