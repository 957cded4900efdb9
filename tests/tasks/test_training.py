"""What a training left is read strictly: whole, or in one line why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from recipes import recipe_of, write_choice

from lcm_lora import layout
from lcm_lora.errors import UserError
from lcm_lora.files import sha256, write_json
from tasks.tracking.training import read_course, read_training

CURVE = layout.TRAINING / "curve.jsonl"
ORIGIN = layout.TRAINING / "origin.json"
RECIPE = layout.ADAPTER / "recipe.json"
WEIGHTS = layout.ADAPTER / "pytorch_lora_weights.safetensors"
CANDIDATE = layout.CANDIDATES / "step-00000001" / "recipe.json"
KOHYA = layout.ADAPTER / "adapter_kohya.safetensors"
ROW = {"step": 1, "loss": 0.5, "grad_norm": None, "learning_rate": 1e-4}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project folder with all that a training leaves."""
    for path in (CURVE, WEIGHTS, KOHYA):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(json.dumps(ROW) + "\n")
    origin = {"git_commit": "abc", "git_dirty": False, "code_sha256": "def"}
    write_json(tmp_path / ORIGIN, origin)
    write_json(tmp_path / RECIPE, recipe_of(sha256(tmp_path / WEIGHTS)))
    write_choice(tmp_path)
    return tmp_path


def test_all_that_a_training_left_is_read(root: Path) -> None:
    training = read_training(root)
    assert training.recipe.weights_sha256 == sha256(root / WEIGHTS)
    assert training.origin.git_commit == "abc"
    assert [row.model_dump() for row in training.curve] == [ROW]
    assert training.selection.chosen == 1


def test_equal_weights_of_all_candidates_are_an_equal_training(root: Path) -> None:
    before = read_course(root).candidates_sha256
    recipe = root / CANDIDATE
    write_json(recipe, json.loads(recipe.read_text()) | {"params": {"checkpoint_every": 7}})
    assert read_course(root).candidates_sha256 == before
    write_json(recipe.parents[1] / "step-00000002" / "recipe.json", recipe_of("other"))
    assert read_course(root).candidates_sha256 != before


@pytest.mark.parametrize(
    "path", [CURVE, ORIGIN, RECIPE, WEIGHTS, KOHYA], ids=lambda path: path.name
)
@pytest.mark.parametrize("damage", ["missing", "truncated", "not JSON", "wrong keys"])
def test_damage_is_one_line_that_says_where_and_how_to_mend(
    root: Path, path: Path, damage: str
) -> None:
    whole = (root / path).read_text()
    contents = {"truncated": whole[:-7], "not JSON": "\0\n", "wrong keys": '{"step": 1}\n'}
    if damage in contents:
        (root / path).write_text(contents[damage])
    else:
        (root / path).unlink()
    with pytest.raises(UserError, match=rf"{path}.*; run `.+`") as caught:
        read_training(root)
    assert "\n" not in str(caught.value)
