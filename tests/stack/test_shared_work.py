"""Work that machines share through a real S3 store: whole, one of two, and told where it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from team_stack import Stack

from lcm_lora.hashes import Hashes
from lcm_lora.pieces import Pieces
from lcm_lora.store import ENVIRONMENT, Store, shared_store

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def store(stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    """A folder of the test's own in the store of the stack."""
    stack.admit(monkeypatch)
    shared = shared_store()
    assert shared is not None
    shared.check()
    return shared.at(tmp_path.name)


@pytest.fixture
def machine(store: Store, tmp_path: Path) -> Callable[[str], Pieces]:
    """Return a function that opens the pieces of a machine."""

    def opened(name: str) -> Pieces:
        return Pieces(tmp_path / name / "pieces", Hashes(tmp_path / name / "hashes"), store)

    return opened


def make(pieces: Pieces, key: str, content: bytes) -> None:
    with pieces.make(key) as made:
        for name in ("latents.bin", "about.json"):
            (made / name).write_bytes(content)


def found(pieces: Pieces, key: str) -> set[bytes]:
    """Return what the files of a piece hold; nothing where there is none."""
    folder = pieces.find(key)
    return {(folder / n).read_bytes() for n in ("latents.bin", "about.json")} if folder else set()


def test_another_machine_fetches_several_pieces_at_a_time(
    machine: Callable[[str], Pieces], store: Store
) -> None:
    contents = {f"{i:024x}": os.urandom(200_000) for i in range(20)}
    for key, content in contents.items():
        make(machine("a"), key, content)
    b = machine("b")
    b.fetch(contents)
    for key, content in contents.items():
        assert b.path(key).is_dir()
        assert found(b, key) == {content}
        assert machine("c").is_shared(key)
    assert dict(store.read_all([f"{key}.json" for key in contents])).keys() == {
        f"{key}.json" for key in contents
    }


def test_of_machines_that_make_the_same_at_once_one_leaves_a_whole_piece(
    machine: Callable[[str], Pieces],
) -> None:
    """Though each makes it to other bytes, as GPUs may."""
    with ThreadPoolExecutor(6) as pool:
        contents = [bytes([i]) * 300_000 for i in range(6)]
        list(pool.map(lambda i: make(machine(f"m{i}"), "key", contents[i]), range(6)))
    (content,) = found(machine("last"), "key")
    assert content in contents


def test_a_damaged_piece_is_none_and_folders_go_with_all_in_them(
    machine: Callable[[str], Pieces], store: Store
) -> None:
    make(machine("a"), "key", b"content")
    (name, *_) = store.at("key").names()
    store.at("key").write(name, b"damaged")
    assert found(machine("b"), "key") == set()
    store.move("key", "aside")
    assert name in store.at("aside").names()
    store.write("candidate", b"weights")
    store.move("candidate", "named")
    assert store.read("named") == b"weights"
    assert "candidate" not in store.names()
    store.remove("aside")
    assert store.at("aside").names() == []
    assert found(machine("b"), "key") == set()
    make(machine("b"), "key", b"content")
    assert found(machine("c"), "key") == {b"content"}


CHECK = """
from lcm_lora.errors import UserError
from lcm_lora.store import shared_store
try:
    shared_store().check()
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        (ENVIRONMENT, "s3://no-such-bucket/store", "NoSuchBucket|bucket does not exist"),
        ("AWS_SECRET_ACCESS_KEY", "wrong", "Forbidden|SignatureDoesNotMatch|PermissionError"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9", "Could not connect"),
    ],
)
def test_a_store_that_cannot_be_used_is_told_in_a_line(
    variable: str, value: str, words: str, stack: Stack
) -> None:
    environment = {**os.environ, **stack.environment, variable: value}
    done = subprocess.run(
        [sys.executable, "-c", CHECK], env=environment, cwd=ROOT, text=True, stdout=-1, check=True
    )
    assert len(done.stdout.splitlines()) == 1
    assert done.stdout.startswith(ENVIRONMENT)
    assert any(word in done.stdout for word in words.split("|")), done.stdout
    assert stack.environment["AWS_SECRET_ACCESS_KEY"] not in done.stdout
