"""Pieces across machines: what one made another finds, whole, or not at all."""

from __future__ import annotations

import hashlib
import itertools
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from failing import Failing

from lcm_lora.errors import UserError
from lcm_lora.hashes import Hashes
from lcm_lora.pieces import SUMS, Pieces
from lcm_lora.store import Store, open_store

FILES = {"latents.bin": b"latents" * 99, "about.json": b"{}"}
WRITES = len(FILES) + 1
"""That share a piece: its files and its record."""


@pytest.fixture(params=["memory", "file", "failing"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store that machines share."""
    places = {
        "memory": f"memory://{uuid.uuid4()}",
        "file": (tmp_path / "far").as_uri(),
        "failing": f"failing://bucket/{uuid.uuid4()}",
    }
    return open_store(places[request.param], "LCM_LORA_STORE")


@pytest.fixture
def machine(store: Store, tmp_path: Path) -> Callable[[str], Pieces]:
    """Return a function that opens the pieces of a machine."""

    def opened(name: str) -> Pieces:
        return Pieces(tmp_path / name / "pieces", Hashes(tmp_path / name / "hashes"), store)

    return opened


def make(pieces: Pieces, content: bytes = b"", key: str = "key") -> None:
    with pieces.make(key) as made:
        for name, usual in FILES.items():
            (made / name).write_bytes(content or usual)


def found(pieces: Pieces, key: str = "key") -> dict[str, bytes] | None:
    """Return what the files of a piece hold; None where there is none."""
    folder = pieces.find(key)
    return {name: (folder / name).read_bytes() for name in FILES} if folder else None


Machine = Callable[[str], Pieces]


def test_what_one_machine_made_another_has(machine: Machine) -> None:
    assert found(machine("b")) is None
    make(machine("a"))
    assert machine("b").is_shared("key")
    assert found(machine("b")) == FILES
    assert not machine("b").is_shared("other")


def test_what_was_made_before_there_was_a_store_is_shared_when_it_is_used(
    machine: Machine, tmp_path: Path
) -> None:
    make(Pieces(tmp_path / "a" / "pieces", Hashes(tmp_path / "a" / "hashes")))
    assert found(machine("b")) is None
    assert machine("a").find("key")
    assert found(machine("b")) == FILES


def test_clearing_up_here_removes_nothing_there(machine: Machine) -> None:
    a = machine("a")
    make(a)
    a.claim("user", ["another"])
    a.keep_only([])
    assert not a.path("key").exists()
    assert found(machine("a")) == FILES


def test_what_is_kept_on_the_way_is_shared_until_the_piece_is_whole(machine: Machine) -> None:
    make(machine("a").on_the_way_to("key"), key="00000000")
    b = machine("b")
    assert found(b.on_the_way_to("key"), "00000000") == FILES
    make(b)
    b.clear("key")
    assert found(machine("c").on_the_way_to("key"), "00000000") is None
    assert found(machine("c")) == FILES


@pytest.mark.parametrize("store", ["failing"], indirect=True)
@pytest.mark.parametrize("writes", range(1, WRITES + 1))
@pytest.mark.parametrize("is_there", [False, True])
def test_a_machine_that_fails_at_any_write_leaves_a_whole_piece_or_none(
    writes: int, is_there: bool, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that makes, to other bytes, what another machine has made at the same time."""
    if is_there:
        make(machine("b"))
    monkeypatch.setattr(Failing, "writes_left", writes)
    with pytest.raises(UserError, match=r"LCM_LORA_STORE .*cannot be used \(TimeoutError: the net"):
        make(machine("a"), b"of the other machine")
    Failing.writes_left = 10**9
    there = found(machine("c"))
    if is_there and writes < WRITES:
        assert there == FILES
    else:
        assert there is None
    here = found(machine("a"))  # what it made is kept, and shared if there is none
    assert here is not None
    assert set(here.values()) == {b"of the other machine"}
    if writes == WRITES:  # half a record: whoever needs the piece makes it anew
        make(machine("d"))
        here = FILES
    assert found(machine("e")) == (there or here)


def flip(store: Store, name: str) -> None:
    content = bytearray(store.read(name))
    content[len(content) // 2] ^= 1
    store.write(name, bytes(content))


def cut(store: Store, name: str) -> None:
    store.write(name, store.read(name)[:-1])


def lead_out(store: Store, name: str) -> None:
    """Let the record name a file that is not the piece's."""
    record = json.loads(store.read("key.json"))
    record["files"]["../../taken"] = record["files"].pop("about.json")
    sealed = json.dumps(record["files"], sort_keys=True).encode()
    record["files_sha256"] = hashlib.sha256(sealed).hexdigest()
    store.write("key.json", json.dumps(record).encode())


@pytest.mark.parametrize("damage", [flip, cut, Store.remove, lead_out])
@pytest.mark.parametrize("file", range(WRITES))
def test_a_damaged_piece_is_none_and_is_made_anew_for_all(
    damage: Callable[[Store, str], None],
    file: int,
    machine: Machine,
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make(machine("a"))
    names = [f"key/{name}" for name in store.at("key").names()]
    damaged = [*names, "key.json"][file]
    damage(store, damaged)
    b = machine("b")
    assert found(b) is None
    assert not (tmp_path / "b" / "taken").exists()
    is_named = damage is not Store.remove or damaged != "key.json"
    assert ("damaged; it is made anew" in capsys.readouterr().err) == is_named
    make(b)
    assert found(machine("c")) == FILES


def changes(content: bytes) -> Iterator[bytes]:
    """Yield it with another letter at each place, or the same in the other case."""
    for place, bit in itertools.product(range(len(content)), (0, 5)):
        changed = bytearray(content)
        changed[place] ^= 1 << bit
        yield bytes(changed)


def test_no_letter_of_a_record_changes_unseen(tmp_path: Path) -> None:
    """Nor one of a name: in a store files lie under names of their content."""
    store, hashes = open_store(f"memory://{uuid.uuid4()}", "LCM_LORA_STORE"), Hashes(tmp_path / "h")
    make(Pieces(tmp_path / "a", hashes, store))
    alone, own = Pieces(tmp_path / "a", hashes), tmp_path / "a" / "key" / SUMS
    for changed in changes(own.read_bytes()):
        own.write_bytes(changed)
        assert found(alone) is None, changed
    for changed in changes(store.read("key.json")):
        store.write("key.json", changed)
        assert found(Pieces(tmp_path / "b", hashes, store)) is None, changed


def test_what_is_moved_is_whole_at_its_new_name_alone(store: Store) -> None:
    store.at("step/inside").write("state", b"state")
    store.write("step/record", b"record")
    store.at("aside").write("old", b"old")
    store.move("step", "aside")
    assert store.at("aside").names() == ["inside", "record"]
    assert store.read("aside/inside/state") == b"state"
    store.move("aside/record", "record")
    assert store.names() == ["aside", "record"]
    assert store.read("record") == b"record"
