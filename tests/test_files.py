"""Writes are whole or not at all."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from lcm_lora.files import (
    clear_others,
    new_folder,
    sha256,
    write_bytes,
    write_json,
    write_tensors,
)


def test_a_failed_folder_leaves_the_old_one_and_no_litter(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as made:
        (made / "a").write_text("old")

    def fail_half_way() -> None:
        with new_folder(tmp_path / "out") as made:
            (made / "a").write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_half_way()
    assert (tmp_path / "out" / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with new_folder(tmp_path / "out") as made:
            (made / name).touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b"]


def test_a_folder_can_be_read_by_everybody(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as made:
        (made / "sub").mkdir(mode=0o700)
        save_file({"x": np.zeros(2, np.float32)}, made / "sub" / "x.safetensors")
    entries = [tmp_path / "out", *(tmp_path / "out").rglob("*")]
    assert [oct(entry.stat().st_mode & 0o777) for entry in entries] == ["0o755", "0o755", "0o644"]


def test_json_that_is_not_json_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"b": 1, "a": 2})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 2, "b": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_the_hash_of_a_folder_sees_names_and_contents(tmp_path: Path) -> None:
    def tree(name: str, **files: str) -> str:
        for file, text in files.items():
            write_bytes(tmp_path / name / file, text.encode())
        return sha256(tmp_path / name)

    one = tree("one", a="x", b="y")
    assert tree("same", b="y", a="x") == one
    assert len({one, tree("renamed", a="x", c="y"), tree("edited", a="x", b="z")}) == 3


def test_equal_tensors_are_equal_files(tmp_path: Path) -> None:
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    seen = set()
    for i in range(8):
        path = tmp_path / f"{i}.safetensors"
        write_tensors(
            path, {"x": torch.from_numpy(value)}, {"format": "pt", "one": "1", "two": "ü"}
        )
        assert np.array_equal(load_file(path)["x"], value)
        seen.add(path.read_bytes())
    assert len(seen) == 1


def test_folders_of_other_names_go_and_what_killed_runs_left_but_no_files(tmp_path: Path) -> None:
    for name in ("kept", "gone", ".kept.abcdefgh"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").touch()
    (tmp_path / ".gitignore").touch()
    with new_folder(tmp_path / "made"):  # by a process that lives
        assert clear_others(tmp_path, {"kept"}) == [tmp_path / "gone"]
        assert len(list(tmp_path.glob(".made.*"))) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"kept", "made", ".gitignore"}
    assert clear_others(tmp_path / "nowhere", {"kept"}) == []
