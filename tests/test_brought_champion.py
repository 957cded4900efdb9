"""The champion that was brought is taken over whole, once, and only where it fits the base."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from recipes import recipe_of

from lcm_lora.adapter_files import KOHYA, RECIPE, WEIGHTS
from lcm_lora.champion import ADAPTER, take_over, write_champion
from lcm_lora.champion_record import CHAMPION, Champion, read_champion
from lcm_lora.errors import UserError
from lcm_lora.files import sha256


@pytest.fixture
def brought(tmp_path: Path) -> Path:
    return tmp_path / "brought"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "data" / "champion"


def bring(brought: Path, number: int, content: bytes = b"weights") -> Champion:
    """Leave a version as the flow does."""
    adapter = brought.parent / "registry" / str(number)
    shutil.rmtree(adapter, ignore_errors=True)
    adapter.mkdir(parents=True)
    for name in (WEIGHTS, KOHYA):
        (adapter / name).write_bytes(content)
    digest = sha256(adapter / WEIGHTS)
    (adapter / RECIPE).write_text(json.dumps(recipe_of(digest)))
    champion = Champion(version=f"shapes version {number}", weights_sha256=digest)
    write_champion(brought, champion, adapter)
    return champion


def times(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in (folder, *folder.rglob("*"))}


def test_without_a_registry_there_is_none_and_that_is_written(brought: Path, out: Path) -> None:
    assert take_over(brought, out, "sd1") is None
    assert read_champion(out) is None
    before = times(out)
    assert take_over(brought, out, "sd1") is None
    assert times(out) == before
    write_champion(brought, None, None)  # a registry that has none says so
    assert take_over(brought, out, "sd1") is None
    assert times(out) == before


def test_a_champion_is_taken_over_once(brought: Path, out: Path) -> None:
    champion = bring(brought, 1)
    assert take_over(brought, out, "sd1") == champion == read_champion(out)
    assert {file.name for file in (out / ADAPTER).iterdir()} == {WEIGHTS, KOHYA, RECIPE}
    before, content = times(out), sha256(out)
    bring(brought, 1)  # the flow brings it again
    assert take_over(brought, out, "sd1") == champion
    assert (times(out), sha256(out)) == (before, content)


def test_the_one_of_before_stays_where_no_flow_asked_the_registry(brought: Path, out: Path) -> None:
    champion = bring(brought, 1)
    take_over(brought, out, "sd1")
    before = times(out)
    assert take_over(brought.parent / "nowhere", out, "sd1") == champion
    assert times(out) == before


def test_another_version_takes_its_place_and_so_does_none(brought: Path, out: Path) -> None:
    bring(brought, 1)
    first = take_over(brought, out, "sd1")
    second = bring(brought, 2, b"better weights")
    assert take_over(brought, out, "sd1") == second == read_champion(out) != first
    assert (out / ADAPTER / WEIGHTS).read_bytes() == b"better weights"
    write_champion(brought, None, None)  # somebody took the alias away
    assert take_over(brought, out, "sd1") is None
    assert not (out / ADAPTER).exists()


@pytest.mark.parametrize("name", [WEIGHTS, KOHYA, RECIPE])
@pytest.mark.parametrize("is_gone", [True, False])
def test_what_was_brought_damaged_is_a_line_and_changes_nothing(
    name: str, is_gone: bool, brought: Path, out: Path
) -> None:
    take_over(brought, out, "sd1")  # none
    bring(brought, 1)
    damage(brought / ADAPTER / name, is_gone)
    before = sha256(out)
    with pytest.raises(UserError, match=rf"{name}.*remove the folder {brought}, and run the flow"):
        take_over(brought, out, "sd1")
    assert sha256(out) == before


@pytest.mark.parametrize("name", [WEIGHTS, RECIPE])
def test_an_output_that_was_damaged_is_made_anew(name: str, brought: Path, out: Path) -> None:
    champion = bring(brought, 1)
    take_over(brought, out, "sd1")
    whole = sha256(out)
    for spoilt in (out / ADAPTER / name, out / CHAMPION):
        damage(spoilt, is_gone=False)
        assert take_over(brought, out, "sd1") == champion
        assert sha256(out) == whole


def test_a_damaged_output_is_not_taken_for_no_champion(brought: Path, out: Path) -> None:
    bring(brought, 1)
    take_over(brought, out, "sd1")
    damage(out / CHAMPION, is_gone=False)
    with pytest.raises(UserError, match=rf"{CHAMPION}.*remove the folder {out}, and run the flow"):
        take_over(brought.parent / "nowhere", out, "sd1")


def test_other_weights_than_the_versions_are_refused(brought: Path, out: Path) -> None:
    bring(brought, 1)
    stranger = Champion(version="shapes version 1", weights_sha256="f" * 64)
    write_champion(brought, stranger, brought.parent / "registry" / "1")
    with pytest.raises(
        UserError, match=r"adapter: not the weights of shapes version 1; remove the"
    ):
        take_over(brought, out, "sd1")


def test_a_champion_of_another_family_is_refused_wherever_it_lies(brought: Path, out: Path) -> None:
    bring(brought, 1)
    says = r"^registry\.name: the champion, shapes version 1, is an adapter for sd1, the base is of"
    with pytest.raises(UserError, match=says):
        take_over(brought, out, "sdxl")
    assert not out.exists()
    take_over(brought, out, "sd1")
    with pytest.raises(UserError, match=says):
        take_over(brought.parent / "nowhere", out, "sdxl")


def damage(file: Path, is_gone: bool) -> None:
    """Remove a file, or put another in its place, so that no link to it is touched."""
    file.unlink()
    if not is_gone:
        file.write_bytes(b"something else")
