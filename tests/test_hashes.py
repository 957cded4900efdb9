"""Hashes are those of the bytes, read once for each state of a file, shared by processes."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from lcm_lora.errors import UserError
from lcm_lora.hashes import Hashes


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the files that are read, as they are."""
    names: list[str] = []
    digest = hashlib.file_digest

    def noting(file: object, name: str) -> object:
        names.append(Path(file.name).name)  # type: ignore[attr-defined]
        return digest(file, name)  # type: ignore[arg-type]

    monkeypatch.setattr(hashlib, "file_digest", noting)
    return names


def aged(path: Path, content: bytes) -> str:
    """Write a file that was last changed a while ago; return its hash."""
    path.write_bytes(content)
    an_hour_ago = time.time_ns() - 3600 * 10**9
    os.utime(path, ns=(an_hour_ago, an_hour_ago))
    return hashlib.sha256(content).hexdigest()


def test_a_file_is_read_once_for_each_of_its_states(tmp_path: Path, reads: list[str]) -> None:
    file, store = tmp_path / "a.tar", tmp_path / "hashes.sqlite"
    first = aged(file, b"first")
    for _ in range(3):
        with Hashes(store) as hashes:
            assert hashes.sha256(file) == first
    assert reads == ["a.tar"]
    second = aged(file, b"other")  # as long, and as old
    os.utime(file, ns=(1, 1))
    with Hashes(store) as hashes:
        assert hashes.sha256(file) == second
    file.rename(tmp_path / "b.tar")
    aged(file, b"third")
    with Hashes(store) as hashes:
        assert hashes.sha256(file) != second


def test_a_file_that_just_changed_is_not_believed(tmp_path: Path, reads: list[str]) -> None:
    """Within one tick of the clock it could change again, and look the same."""
    file = tmp_path / "a.tar"
    with Hashes(tmp_path / "hashes.sqlite") as hashes:
        file.write_bytes(b"one")
        soon = time.time_ns() + 60 * 10**9  # just changed, however slow this machine is
        os.utime(file, ns=(soon, soon))
        hashes.sha256(file)
        hashes.sha256(file)
    assert reads == ["a.tar", "a.tar"]


def test_a_file_that_grows_while_it_is_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.tar"
    aged(file, b"first")
    digest = hashlib.file_digest

    def growing(opened: object, name: str) -> object:
        found = digest(opened, name)  # type: ignore[arg-type]
        with file.open("ab") as other:
            other.write(b"more")
        return found

    monkeypatch.setattr(hashlib, "file_digest", growing)
    with (
        Hashes(tmp_path / "hashes.sqlite") as hashes,
        pytest.raises(UserError, match=r"a\.tar: changes while it is read; wait"),
    ):
        hashes.sha256(file)


def test_a_damaged_store_is_made_anew(tmp_path: Path) -> None:
    file, store = tmp_path / "a", tmp_path / "hashes.sqlite"
    expected = aged(file, b"content")
    store.write_bytes(b"no database" * 1000)
    with Hashes(store) as hashes:
        assert hashes.sha256(file) == expected


def test_two_may_use_a_store_at_once(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    first, second = aged(one, b"1"), aged(other, b"2")
    with Hashes(tmp_path / "h") as here, Hashes(tmp_path / "h") as there:
        assert here.sha256(one) == first
        assert there.sha256(other) == second
        assert there.sha256(one) == first
