"""The first look sees what changed out there, says it in a line, and reads nothing twice."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lcm_lora import layout
from lcm_lora.data.units import SourceInventory
from lcm_lora.errors import UserError
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base import look_at_base, read_base
from lcm_lora.inventory.base_files import where_is
from lcm_lora.inventory.networks import look_at_networks
from lcm_lora.inventory.source import changes, look_at_source
from lcm_lora.params.base import Base
from lcm_lora.params.score import Score
from lcm_lora.params.sources import FolderSource, ShapesSource, WebdatasetSource
from lcm_lora.pieces import Pieces
from lcm_lora.records import write_record
from lcm_lora.shapes import places
from lcm_lora.stages.inventory import forget

AN_HOUR_AGO = time.time_ns() - 3600 * 10**9


def settle(folder: Path) -> None:
    """Make all files of a folder as old as those of a source that is at rest."""
    for path in folder.rglob("*"):
        os.utime(path, ns=(AN_HOUR_AGO, AN_HOUR_AGO))


@pytest.fixture
def tars(tmp_path: Path) -> WebdatasetSource:
    """Return a source of three tars of two pictures each."""
    folder = tmp_path / "tars"
    folder.mkdir()
    for number in range(3):
        pack(folder / f"{number}.tar", number)
    settle(folder)
    return WebdatasetSource(kind="webdataset", path=folder)


def pack(tar: Path, colour: int, pictures: int = 2) -> None:
    """Write a tar of plain pictures with captions."""
    made = tar.parent.parent / "made"
    made.mkdir(exist_ok=True)
    with tarfile.open(tar, "w") as writer:
        for i in range(pictures):
            Image.new("RGB", (8, 8), (40 * colour, 20 * i, 0)).save(made / "a.png")
            (made / "a.txt").write_text(f"colour {colour}")
            writer.add(made / "a.png", f"{i}.png")
            writer.add(made / "a.txt", f"{i}.txt")


def test_what_happens_to_tars_is_said_in_a_line(tars: WebdatasetSource, hashes: Hashes) -> None:
    folder = tars.path
    before: SourceInventory | None = None

    def now() -> str:
        nonlocal before
        found = look_at_source(tars, hashes, before)
        line, before = changes(before, found), found
        return line

    assert now() == "first look: 3 tars, 6 pictures"
    assert now() == "nothing new (3 tars, 6 pictures)"
    for number in (3, 4):
        pack(folder / f"{number}.tar", number, pictures=3)
    assert now() == "2 new tars, 6 pictures more: 12"
    (folder / "4.tar").rename(folder / "5.tar")
    assert now() == "1 renamed tar, 12 pictures as before"
    (folder / "0.tar").touch()
    assert now() == "nothing new (5 tars, 12 pictures)"
    pack(folder / "0.tar", 9)
    (folder / "5.tar").unlink()
    assert now() == "1 removed tar, 1 changed tar, 3 pictures fewer: 9"


def test_a_picture_of_a_folder_changes_one_run(tmp_path: Path, hashes: Hashes) -> None:
    for i in range(3000):
        (tmp_path / f"{i:05d}.png").write_bytes(b"%d" % i)
        (tmp_path / f"{i:05d}.txt").write_text(f"caption {i}")
    source = FolderSource(kind="folder", path=tmp_path)
    before = look_at_source(source, hashes, None)
    assert before.pictures == 3000
    assert len(before.units) >= 3

    def changed() -> int:
        nonlocal before
        now = look_at_source(source, hashes, before)
        count = len({u.sha256 for u in now.units} - {u.sha256 for u in before.units})
        before = now
        return count

    assert changed() == 0
    (tmp_path / "01500.txt").write_text("another caption")
    assert changed() == 1
    (tmp_path / "00700a.png").write_bytes(b"new")
    assert changed() <= 2  # its name may end a run
    (tmp_path / "02000.png").unlink()
    assert changed() <= 1
    (tmp_path / "02000.png").write_bytes(b"2000")
    (tmp_path / "00010.png").touch()
    (tmp_path / "notes.md").write_text("no picture")
    changed()
    assert changed() == 0


def test_nothing_is_read_twice(
    tars: WebdatasetSource, hashes: Hashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = look_at_source(tars, hashes, None)

    def refuse(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(hashlib, "file_digest", refuse)
    monkeypatch.setattr(tarfile, "open", refuse)
    assert look_at_source(tars, hashes, before) == before


def test_scenes_are_counted_without_drawing_them(hashes: Hashes) -> None:
    before = look_at_source(ShapesSource(count=2048, seed=1), hashes, None)
    now = look_at_source(ShapesSource(count=2049, seed=1), hashes, before)
    assert changes(before, now) == "1 new part, 1 pictures more: 2,049"
    other = look_at_source(ShapesSource(count=2048, seed=2), hashes, None)
    assert not {u.sha256 for u in other.units} & {u.sha256 for u in before.units}


def copy_of_the_base(folder: Path) -> Path:
    shutil.copytree(places.BASE, folder)
    settle(folder)
    return folder


def test_a_base_is_its_files(tmp_path: Path, hashes: Hashes) -> None:
    folder = copy_of_the_base(tmp_path / "base")
    base = Base(model=str(folder))
    before = look_at_base(base, hashes)
    assert before.sha256 == look_at_base(Base(), hashes).sha256  # the same files elsewhere
    assert where_is(before).model == folder
    (folder / "README.md").write_text("a card")
    (folder / "unet" / "config.json").touch()
    assert look_at_base(base, hashes) == before
    record = tmp_path / "base.json"
    write_record(record, before)
    assert read_base(record, hashes) == before
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    after = look_at_base(base, hashes)
    assert {n for n in after.files if after.files[n] != before.files[n]} == {
        "unet/diffusion_pytorch_model.safetensors"
    }
    assert after.part_sha256("vae") == before.part_sha256("vae") != before.sha256
    assert after.part_sha256("unet") != before.part_sha256("unet")
    with pytest.raises(UserError, match="changed since the first look; run `lcm-lora inventory`"):
        read_base(record, hashes)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("base.ckpt", "pickled weights are refused"),
        ("gone.safetensors", "no such file or folder"),
        ("/gone/away", "no such file or folder"),
        ("nobody/has-this", "not in the local hub cache, and the hub does not answer"),
        ("models/sd/v15", "neither a file, a folder nor a repository on the hub"),
        ("./gone", "neither a file, a folder nor a repository on the hub"),
    ],
)
def test_a_base_that_is_not_there(
    hashes: Hashes, model: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for what, params in {"model": Base(model=model), "vae": Base(vae=model)}.items():
        with pytest.raises(UserError, match=rf"^base\.{what} .*{message}") as error:
            look_at_base(params, hashes)
        assert "\n" not in str(error.value)


def test_a_base_that_vanishes_is_said_in_a_line(tmp_path: Path, hashes: Hashes) -> None:
    record, folder = tmp_path / "base.json", copy_of_the_base(tmp_path / "base")
    vae = Path(shutil.copytree(folder / "vae", tmp_path / "vae@home"))
    found = look_at_base(Base(model=str(folder), vae=str(vae)), hashes)
    write_record(record, found)
    assert where_is(found).vae == vae
    for what, place in {"vae": vae, "model": folder}.items():
        shutil.rmtree(place)
        gone = rf"^base\.{what} .*: is gone from where it was; run `lcm-lora inventory`$"
        with pytest.raises(UserError, match=gone):
            where_is(found)
        with pytest.raises(UserError, match=gone):
            read_base(record, hashes)


COMMITS = ("1" * 40, "2" * 40)

LOOK = """
import sys
from pathlib import Path
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base import look_at_base
from lcm_lora.params.base import Base
with Hashes(Path("hashes.sqlite")) as hashes:
    print(look_at_base(Base(model="team/base", revision={revision!r}), hashes).model_dump_json())
assert "torch" not in sys.modules
"""


def test_a_hub_id_is_a_commit_of_the_local_cache_without_a_network(tmp_path: Path) -> None:
    """A revision that moves to another commit is another base; the line says which commit."""
    repository = tmp_path / "hub" / "models--team--base"
    for commit in COMMITS:
        snapshot = repository / "snapshots" / commit
        shutil.copytree(places.BASE, snapshot)
        (snapshot / "unet" / "config.json").write_text(f'{{"commit": "{commit}"}}')
    (repository / "refs").mkdir()

    def look(revision: str | None) -> tuple[dict[str, Any], str]:
        environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            [sys.executable, "-c", LOOK.format(revision=revision)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout), done.stderr

    found = []
    for commit in COMMITS:
        (repository / "refs" / "main").write_text(commit)
        base, line = look(None)
        assert base["commit"] == commit
        assert line == f"base.model: offline; team/base as cached, commit {commit}\n"
        found.append(base)
    assert found[0]["sha256"] != found[1]["sha256"]
    assert look(COMMITS[0])[0] == found[0]


def score(**more: Any) -> Score:
    return Score(**{"networks": {"shapes": {"kind": "shapes"}}} | more)


def test_networks_are_their_files(tmp_path: Path, hashes: Hashes) -> None:
    found = look_at_networks(score(), hashes)
    assert found.attributes is not None
    assert look_at_networks(score(attributes=False), hashes).attributes is None
    clip = tmp_path / "clip"
    shutil.copytree(places.CLIP, clip)
    processor = {"size": 32, "crop_size": 32, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (clip / "preprocessor_config.json").write_text(json.dumps(processor))
    with_clip = score(clip=str(clip))
    before = look_at_networks(with_clip, hashes).clip
    assert before.files.items() > found.clip.files.items()
    config = json.loads((clip / "config.json").read_text())
    (clip / "config.json").write_text(json.dumps(config | {"a": 1}))
    assert look_at_networks(with_clip, hashes).clip.sha256 != before.sha256
    (tmp_path / "other.pt").write_bytes(b"another network")
    inception = {"it": {"kind": "inception", "path": str(tmp_path / "other.pt")}}
    with pytest.raises(UserError, match="not the 2015 Inception weights"):
        look_at_networks(score(networks=inception), hashes)
    with pytest.raises(UserError, match="no such folder"):
        look_at_networks(score(clip=str(tmp_path / "gone")), hashes)


def test_plugins_are_their_words_and_files(tmp_path: Path, hashes: Hashes) -> None:
    script = tmp_path / "metric.py"
    script.write_text("1")

    def seen(*more: str) -> str:
        command = {"mine": {"command": ["python", str(script), *more]}}
        return look_at_networks(score(plugins=command), hashes).plugins["mine"]

    first = seen()
    assert seen() == first
    assert seen("--fast") != first
    script.write_text("2")
    assert seen() != first


def test_looking_at_networks_imports_no_torch() -> None:
    program = (
        "import sys, lcm_lora.inventory.networks, lcm_lora.stages.features\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_what_was_made_of_painters_that_are_none_any_more_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    hashes = Hashes(tmp_path / "hashes")
    for name in ("teacher", "tcd", "real"):
        for place in (layout.IMAGES, layout.FEATURES):
            (place / name).mkdir(parents=True)
        for stage in ("generate", "features"):
            pieces = Pieces(layout.CHECKPOINTS / stage, hashes)
            pieces.claim(name, [name])
            with pieces.make(name) as made:
                (made / "x").touch()
    forget(["teacher"], [], hashes)
    for place in (layout.IMAGES, layout.FEATURES):
        assert {path.name for path in place.iterdir()} == {"teacher", "real"}
    for stage in ("generate", "features"):
        kept = {path.parent.name for path in (layout.CHECKPOINTS / stage).glob("*/x")}
        assert kept == {"teacher", "real"}
    said = "no painters any more: tcd; their pictures are removed\n"
    assert capsys.readouterr().err == said
    forget(["teacher"], [], hashes)
    assert capsys.readouterr().err == "", "and it is said once"
