"""Locks keep out who comes second, and die with their holder."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from lcm_lora.files import new_folder
from lcm_lora.hashes import Hashes
from lcm_lora.locks import is_held, locked, remove_unless_held
from lcm_lora.pieces import Pieces

HOLD = """
import sys
from pathlib import Path
from lcm_lora.files import new_folder
from lcm_lora.hashes import Hashes
from lcm_lora.pieces import Pieces
store, out = Path(sys.argv[1]), Path(sys.argv[2])
pieces = Pieces(store, Hashes(store.parent / "hashes"))
with new_folder(out), pieces.locked("key"), pieces.make("key") as made:
    (made / "half").touch()
    print("holds", flush=True)
    sys.stdin.read()
"""


def holder(store: Path, out: Path) -> subprocess.Popen[str]:
    """Start a process that is half through a piece and an output, and stays so."""
    command = [sys.executable, "-c", HOLD, str(store), str(out)]
    process = subprocess.Popen(command, stdin=-1, stdout=-1, text=True)
    assert process.stdout
    assert process.stdout.readline() == "holds\n"
    return process


def test_what_a_living_process_makes_stays_and_what_a_dead_one_left_goes(tmp_path: Path) -> None:
    store, out = tmp_path / "store", tmp_path / "out"
    pieces = Pieces(store, Hashes(tmp_path / "hashes"))
    with holder(store, out) as process:
        assert is_held(store / "locks" / "key")
        pieces.claim("other", ["key"])
        pieces.claim("third", ["another"])
        pieces.forget_all_but(["third"])
        with new_folder(out):
            assert len(list(tmp_path.glob(".out.*"))) == 2
        assert list(store.glob(".key.*/half"))
        process.send_signal(signal.SIGKILL)
    assert len(list(tmp_path.glob(".out.*"))) == 1, "for a killed process clears nothing"
    pieces.claim("third", ["another"])
    assert sorted(path.name for path in store.iterdir()) == ["locks", "users"]
    with new_folder(out):
        assert len(list(tmp_path.glob(".out.*"))) == 1
    assert not list(tmp_path.glob(".out.*"))


def test_a_folder_of_a_longer_name_is_no_leftover(tmp_path: Path) -> None:
    other = tmp_path / ".out.two.abcdefgh"
    other.mkdir()
    with new_folder(tmp_path / "out"):
        assert other.is_dir()


def test_a_lock_can_be_removed_but_not_while_it_is_held(tmp_path: Path) -> None:
    with locked(tmp_path / "lock", "it"):
        remove_unless_held(tmp_path / "lock")
        assert is_held(tmp_path / "lock"), "nobody may remove what is held"
    remove_unless_held(tmp_path / "lock")
    assert not list(tmp_path.iterdir())
    with locked(tmp_path / "lock", "it"):
        assert is_held(tmp_path / "lock")


def test_who_needs_nothing_or_is_gone_keeps_nothing(tmp_path: Path) -> None:
    pieces = Pieces(tmp_path / "store", Hashes(tmp_path / "hashes"))
    for user in ("champion", "teacher", "removed"):
        pieces.claim(user, [user])
        with pieces.locked(user), pieces.make(user) as made:
            (made / "x").touch()
    pieces.claim("champion", [])
    assert pieces.find("champion") is None
    pieces.forget_all_but(["champion", "teacher"])
    assert (pieces.find("removed"), pieces.find("teacher")) == (None, pieces.path("teacher"))
    assert {path.name for path in (tmp_path / "store" / "users").iterdir()} == {"teacher.json"}
    assert {path.name for path in (tmp_path / "store" / "locks").iterdir()} == {"claims", "teacher"}
