"""A file and its weight, as people write them."""

from pathlib import Path

import pytest

from lcm_lora.combining.named import weighted_file
from lcm_lora.errors import UserError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ink.safetensors", ("ink.safetensors", 1.0)),
        ("styles/ink.safetensors:0.8", ("styles/ink.safetensors", 0.8)),
        ("ink:-1", ("ink", -1.0)),
        ("ink:1e-3", ("ink", 0.001)),
        ("models:/ink@prod", ("models:/ink@prod", 1.0)),
        ("models:/ink/3:0.5", ("models:/ink/3", 0.5)),
        ("a:b/c", ("a:b/c", 1.0)),
    ],
)
def test_the_weight_follows_the_last_colon(text: str, expected: tuple[str, float]) -> None:
    path, weight = weighted_file(text)
    assert (str(path), weight) == expected


def test_a_file_that_is_there_is_taken_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ink:2").touch()
    assert weighted_file("ink:2") == (Path("ink:2"), 1.0)
    assert weighted_file("ink:2:0.5") == (Path("ink:2"), 0.5)


@pytest.mark.parametrize("text", ["ink:nan", "ink:inf", "ink:much", "ink:", ":0.5", "", " :1"])
def test_what_is_no_number_or_no_file_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"no finite number|names no file"):
        weighted_file(text)


@pytest.mark.parametrize("text", ["ink:10.5", "ink:-11", "ink:1e39"])
def test_a_weight_has_the_range_that_it_has_in_the_parameters(text: str) -> None:
    with pytest.raises(UserError, match=r"lies outside of -10 to 10"):
        weighted_file(text)
