"""Preparing accounts for every picture, splits by content, and makes only what is new."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from making import make_data, places
from PIL import Image

from lcm_lora.data import unit_shards
from lcm_lora.data.picture_sets import read_set
from lcm_lora.data.pictures import crop, pixels
from lcm_lora.data.prepared import Prepared
from lcm_lora.data.shard import ShardIndex
from lcm_lora.data.shards import ShardSample, read_shard, read_tar_members
from lcm_lora.data.unit_shards import split_of
from lcm_lora.errors import UserError
from lcm_lora.files import sha256
from lcm_lora.params.prepare import Prepare
from lcm_lora.params.sources import FolderSource, ShapesSource, WebdatasetSource
from lcm_lora.records import read_record
from lcm_lora.store import open_store

SMALL: dict[str, Any] = {"resolution": 32, "min_side": 40, "held_out": 0.4, "selection": 0.1}


def write_pictures(folder: Path, pictures: list[Image.Image], first: int = 0) -> None:
    """Write pictures with captions, named by number."""
    folder.mkdir(exist_ok=True)
    for i, picture in enumerate(pictures, first):
        picture.save(folder / f"{i:04d}.png", compress_level=1)
        (folder / f"{i:04d}.txt").write_text(f"piece {i}")


def write_tar(tar: Path, pictures: Path) -> None:
    """Pack a folder of pictures and captions, as other people's tools do."""
    tar.parent.mkdir(exist_ok=True)
    with tarfile.open(tar, "w") as writer:
        for path in sorted(pictures.iterdir()):
            writer.add(path, path.name)


def from_folder(folder: Path) -> FolderSource:
    return FolderSource(kind="folder", path=folder)


def account(project: Path) -> Prepared:
    return read_record(places(project).prepared, Prepared, "")


def training(project: Path) -> list[ShardSample]:
    """Return the training samples, in order."""
    shards = places(project).shards
    index = read_record(shards / "index.json", ShardIndex, "")
    return [sample for shard in index.shards for sample in read_shard(shards, shard)]


def outputs(project: Path) -> str:
    """Return a hash over all outputs but the ledger, which names pieces of code versions too."""
    return sha256(project / "data")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Return a function that says how many pictures were decoded since it was last asked."""
    count = 0
    judge = unit_shards.judge

    def counting(raw: Any) -> Any:
        nonlocal count
        count += 1
        return judge(raw)

    def ask() -> int:
        nonlocal count
        count, asked = 0, count
        return asked

    monkeypatch.setattr(unit_shards, "judge", counting)
    return ask


def test_every_picture_is_accounted_for(tmp_path: Path, photographs: list[Image.Image]) -> None:
    folder = tmp_path / "source"
    write_pictures(folder, photographs[:40])
    for i in range(7):
        photographs[i].crop((0, 0, 80, 39)).save(folder / f"small-{i}.png")
        (folder / f"small-{i}.txt").write_text("too small")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    (folder / "broken.txt").write_text("broken")
    photographs[41].save(folder / "silent.png")
    photographs[42].save(folder / "empty.png")
    (folder / "empty.txt").write_text("\n")
    make_data(tmp_path, from_folder(folder), shard_samples=4, **SMALL)
    found = account(tmp_path)
    assert (found.counts["read"], found.counts["rejected"]) == (50, 10)
    assert sum(found.counts[split] for split in ("train", "held_out", "selection")) == 40
    assert {reason: (e.count, e.examples) for reason, e in found.rejected.items()} == {
        "too small": (7, tuple(f"small-{i}.png" for i in range(5))),
        "not a picture": (1, ("broken.jpg",)),
        "no caption": (1, ("silent.png",)),
        "empty caption": (1, ("empty.png",)),
    }
    index = read_record(places(tmp_path).shards / "index.json", ShardIndex, "")
    assert sum(shard.samples for shard in index.shards) == index.samples == found.counts["train"]
    assert all(shard.samples <= 4 for shard in index.shards)
    for shard in index.shards:
        assert sha256_of(places(tmp_path).shards / shard.file) == shard.sha256


def test_rejections_in_tars_are_named_with_their_tar(
    tmp_path: Path, photographs: list[Image.Image]
) -> None:
    folder = tmp_path / "pictures"
    write_pictures(folder, photographs)
    (folder / "0003.txt").unlink()
    write_tar(tmp_path / "tars" / "a.tar", folder)
    whole = (tmp_path / "tars" / "a.tar").read_bytes()
    (tmp_path / "tars" / "b.tar").write_bytes(whole[: len(whole) // 2])
    source = WebdatasetSource(kind="webdataset", path=tmp_path / "tars")
    make_data(tmp_path, source, **SMALL)
    rejected = account(tmp_path).rejected
    assert rejected["no caption"].examples[0] == "a.tar/0003"
    assert rejected["truncated shard"].examples == ("b.tar",)


def test_samples_come_back_as_they_were_cropped(
    tmp_path: Path, photographs: list[Image.Image]
) -> None:
    folder = tmp_path / "source"
    write_pictures(folder, photographs)
    make_data(tmp_path, from_folder(folder), **SMALL)
    samples = training(tmp_path)
    assert len(samples) == account(tmp_path).counts["train"] > 10
    for sample in samples:
        original = folder / sample.record.source
        assert sample.caption == original.with_suffix(".txt").read_text()
        assert sample.record.sha256 == sha256_of(original)
        source = Image.open(original).convert("RGB")
        assert np.array_equal(sample.picture, np.asarray(crop(source, 32).picture))
    assert len({sample.key for sample in samples}) == len(samples)


def test_the_evaluation_set_is_lossless_and_shares_nothing_with_training(
    tmp_path: Path, photographs: list[Image.Image]
) -> None:
    folder = tmp_path / "source"
    write_pictures(folder, photographs)
    make_data(tmp_path, from_folder(folder), prompts=5, quality=60, **SMALL)
    seen = {sample.record.sha256 for sample in training(tmp_path)}
    first = [
        sha256_of(path)
        for path in sorted(folder.glob("*.png"))
        if split_of(sha256_of(path), Prepare(**SMALL)) == "held_out"
    ]
    sources: list[str] = []
    for name in ("real", "reference"):
        record = read_set(places(tmp_path).evaluation, name)
        sources.extend(record.sources)
        contents = read_tar_members(places(tmp_path).evaluation / f"{name}.tar")
        for caption, (_, content) in zip(record.captions, contents, strict=True):
            source = Image.open(folder / f"{int(caption.split()[1]):04d}.png").convert("RGB")
            assert np.array_equal(pixels(content), np.asarray(crop(source, 32).picture))
    assert sources == first[:10]
    chosen = read_set(places(tmp_path).selection, "selection")
    assert not seen & {*sources, *chosen.sources}
    assert not {*sources} & {*chosen.sources}


def sha256_of(path: Path) -> str:
    """Return the hash of a file's bytes, without the code under test."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_same_source_gives_the_same_bytes(
    tmp_path: Path, photographs: list[Image.Image]
) -> None:
    folder = tmp_path / "source"
    write_pictures(folder, photographs)
    make_data(tmp_path / "one", from_folder(folder), **SMALL)
    for path in folder.iterdir():
        path.touch()
    make_data(tmp_path / "other", from_folder(folder), **SMALL)
    assert outputs(tmp_path / "one") == outputs(tmp_path / "other")


@pytest.mark.parametrize("quality", [None, 97])
def test_a_picture_is_kept_in_the_form_that_is_asked_for(
    tmp_path: Path, photographs: list[Image.Image], quality: int | None
) -> None:
    folder = tmp_path / "source"
    write_pictures(folder, photographs)
    make_data(tmp_path, from_folder(folder), quality=quality, **SMALL)
    for sample in training(tmp_path):
        original = Image.open(folder / sample.record.source).convert("RGB")
        error = sample.picture.astype(float) - np.asarray(crop(original, 32).picture)
        if quality is None:
            assert not error.any()
        else:
            assert 0 < np.sqrt(np.mean(error**2)) < 12  # colours at half resolution


def test_tars_are_each_made_once_whatever_their_names(
    tmp_path: Path, photographs: list[Image.Image], decoded: Callable[[], int]
) -> None:
    tars = tmp_path / "tars"
    for i, part in enumerate((photographs[:16], photographs[16:32], photographs[32:])):
        write_pictures(tmp_path / f"{i}", part, first=16 * i)
        write_tar(tars / f"{i}.tar", tmp_path / f"{i}")
    source = WebdatasetSource(kind="webdataset", path=tars)
    last = (tars / "2.tar").rename(tmp_path / "2.tar")
    make_data(tmp_path, source, **SMALL)
    assert decoded() == 32
    before = sha256(places(tmp_path).evaluation)
    last.rename(tars / "2.tar")
    make_data(tmp_path, source, **SMALL)
    assert decoded() == 16
    assert sha256(places(tmp_path).evaluation) == before
    shards = sha256(places(tmp_path).shards)
    (tars / "1.tar").rename(tars / "11.tar")  # keeps its place in the order
    (tars / "0.tar").touch()
    make_data(tmp_path, source, **SMALL)
    assert decoded() == 0
    assert sha256(places(tmp_path).shards) == shards
    assert sha256(places(tmp_path).evaluation) == before
    (tars / "2.tar").unlink()
    make_data(tmp_path, source, **SMALL)
    assert decoded() == 0


def test_a_picture_between_others_is_all_that_is_decoded(
    tmp_path: Path, photographs: list[Image.Image], decoded: Callable[[], int]
) -> None:
    """A new picture changes the run that it falls into; the rest of the run is copied."""
    source = from_folder(tmp_path / "source")
    write_pictures(source.path, photographs[:40])
    make_data(tmp_path, source, **SMALL)
    assert decoded() == 40
    write_pictures(source.path, photographs[40:43], first=-3)  # named to sort before all others
    (source.path / "0007.png").rename(source.path / "0007a.png")
    (source.path / "0007.txt").rename(source.path / "0007a.txt")
    (source.path / "0009.txt").write_text("another caption")
    make_data(tmp_path, source, **SMALL)
    assert decoded() == 3
    make_data(tmp_path / "anew", source, **SMALL)
    assert outputs(tmp_path) == outputs(tmp_path / "anew")


def test_another_machine_decodes_only_what_is_new_to_all(
    tmp_path: Path, photographs: list[Image.Image], decoded: Callable[[], int]
) -> None:
    source = from_folder(tmp_path / "source")
    write_pictures(source.path, photographs[:40])
    shared = open_store(f"memory://{tmp_path}", "LCM_LORA_STORE")
    make_data(tmp_path / "a", source, shared=shared, **SMALL)
    assert decoded() == 40
    make_data(tmp_path / "b", source, shared=shared, **SMALL)
    assert decoded() == 0
    write_pictures(source.path, photographs[40:43], first=-3)
    make_data(tmp_path / "c", source, shared=shared, **SMALL)
    assert decoded() == 3
    make_data(tmp_path / "anew", source, **SMALL)
    assert outputs(tmp_path / "c") == outputs(tmp_path / "anew")


def test_another_machine_goes_on_from_outputs_alone(
    tmp_path: Path, photographs: list[Image.Image], decoded: Callable[[], int]
) -> None:
    from lcm_lora.hashes import Hashes
    from lcm_lora.pieces import Ledger, Pieces

    source = from_folder(tmp_path / "source")
    write_pictures(source.path, photographs)
    make_data(tmp_path / "here", source, **SMALL)
    shutil.copytree(tmp_path / "here" / "data", tmp_path / "there" / "data")
    at = places(tmp_path / "there")
    with Hashes(tmp_path / "there" / ".checkpoints" / "hashes.sqlite") as hashes:
        pieces = Pieces(tmp_path / "there" / ".checkpoints" / "prepare", hashes)
        pieces.adopt(read_record(at.ledger, Ledger, ""), at.shards)
    shutil.rmtree(at.shards)
    decoded()
    make_data(tmp_path / "there", source, **SMALL)
    assert decoded() == 0
    assert outputs(tmp_path / "there") == outputs(tmp_path / "here")


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the program handles it."""


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("add", "remove", "change", "rename", "kill", "damage", "move")),
        st.integers(0, 10**6),
    ),
    min_size=1,
    max_size=7,
)


@pytest.mark.parametrize(("kind", "machines"), [("folder", 1), ("tars", 1), ("folder", 3)])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=12)
@given(steps=STEPS)
def test_whatever_happened_before_the_result_is_that_of_a_run_from_nothing(
    kind: str,
    machines: int,
    steps: list[tuple[str, int]],
    photographs: list[Image.Image],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Appends, removals, changes, renames, kills and damage, in any order, leave no trace.

    Nor does it which of several machines that share a store goes on.
    """
    root = tmp_path_factory.mktemp("random")
    life = Life(root, kind, machines, photographs)
    for what, number in steps:
        life.do(what, number)
        make_data(life.home, life.source, shared=life.shared, **life.params)
        make_data(root / "anew", life.source, **life.params)
        assert outputs(life.home) == outputs(root / "anew")
        shutil.rmtree(root / "anew")


class Life:
    """A source to which things happen, in runs of a few pictures."""

    def __init__(
        self, root: Path, kind: str, machines: int, photographs: list[Image.Image]
    ) -> None:
        self.root, self.kind, self.photographs = root, kind, photographs
        self.machines, self.home, self.store = machines, root / "machine-0", root / "store"
        self.shared = open_store(str(self.store), "LCM_LORA_STORE") if machines > 1 else None
        self.folder = root / "source"
        self.folder.mkdir()
        self.params = {**SMALL, "held_out": 0.5, "selection": 0.2, "shard_samples": 5}
        self.source: FolderSource | WebdatasetSource = (
            FolderSource(kind="folder", path=self.folder)
            if kind == "folder"
            else WebdatasetSource(kind="webdataset", path=self.folder)
        )
        for part in range(4):
            self.put(f"{part}", range(part * 10, part * 10 + 10))

    def put(self, name: str, indices: range) -> None:
        """Write pictures, into a subfolder or a tar."""
        if self.kind == "folder":
            (self.folder / name).mkdir(exist_ok=True)
            for i in indices:
                self.photographs[i % 48].save(self.folder / name / f"{i}.png", compress_level=1)
                (self.folder / name / f"{i}.txt").write_text(f"{name} {i}")
            return
        made = self.root / "made"
        shutil.rmtree(made, ignore_errors=True)
        write_pictures(made, [self.photographs[i % 48] for i in indices], first=indices.start)
        write_tar(self.folder / f"{name}.tar", made)

    def do(self, what: str, number: int) -> None:
        """Let one thing happen."""
        own = sorted(path for path in self.folder.iterdir() if path.name[0] == "x")
        match what:
            case "add":
                self.put(f"x{number % 100}", range(number % 40, number % 40 + 3))
            case "remove" if own:
                path = own[number % len(own)]
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            case "change":
                self.put(f"{number % 4}", range(number % 37, number % 37 + 10))
            case "rename" if own:
                path = own[number % len(own)]
                path.rename(path.with_name(f"x{number % 977}{path.suffix}"))
            case "kill":
                self.kill(number % 50)
            case "damage":
                self.damage(number)
            case "move":
                self.home = self.root / f"machine-{number % self.machines}"

    def kill(self, after: int) -> None:
        """Start a run that dies after so many pictures."""
        with pytest.MonkeyPatch.context() as patch:
            count = 0
            judge = unit_shards.judge

            def dying(raw: Any) -> Any:
                nonlocal count
                count += 1
                if count > after:
                    raise Killed
                return judge(raw)

            patch.setattr(unit_shards, "judge", dying)
            try:
                make_data(self.home, self.source, shared=self.shared, **self.params)
            except Killed:
                return

    def damage(self, number: int) -> None:
        """Flip a byte of something that an earlier run made."""
        made = sorted((self.home / ".checkpoints" / "prepare").rglob("*.*"))
        made += sorted(self.store.rglob("*.*"))
        if files := [path for path in made if path.is_file()]:
            path = files[number % len(files)]
            content = bytearray(path.read_bytes())
            content[number % len(content)] ^= 1
            path.unlink()
            path.write_bytes(content)


def test_copies_stay_together_and_appended_data_moves_no_sample(
    tmp_path: Path, photographs: list[Image.Image]
) -> None:
    folder = tmp_path / "source"
    write_pictures(folder, photographs)
    for i in range(48):
        shutil.copy(folder / f"{i:04d}.png", folder / f"copy-{i}.png")
        (folder / f"copy-{i}.txt").write_text(f"again {i}")
    make_data(tmp_path, from_folder(folder), **SMALL)
    seen = [sample.record.sha256 for sample in training(tmp_path)]
    assert sorted(seen) == sorted([*set(seen)] * 2)
    assert account(tmp_path).counts["read"] == 96


@given(st.binary(min_size=32, max_size=32), st.floats(0, 0.9), st.floats(0, 0.9))
def test_a_larger_share_holds_out_a_superset(digest: bytes, one: float, other: float) -> None:
    low, high = (Prepare(held_out=share, selection=0.05) for share in sorted((one, other)))
    if split_of(digest.hex(), low) == "held_out":
        assert split_of(digest.hex(), high) == "held_out"


def test_the_shares_are_what_was_asked_for(tmp_path: Path) -> None:
    source = ShapesSource(count=2000, seed=2)
    make_data(tmp_path, source, resolution=8, min_side=8, held_out=0.2, selection=0.1)
    counts = account(tmp_path).counts
    # Five standard deviations of a fair draw.
    assert abs(counts["held_out"] - 400) < 5 * (2000 * 0.2 * 0.8) ** 0.5
    assert abs(counts["selection"] - 200) < 5 * (2000 * 0.1 * 0.9) ** 0.5


@settings(max_examples=60)
@given(st.integers(8, 90), st.integers(8, 90), st.sampled_from((8, 16, 32)))
def test_a_crop_is_the_centre_of_the_resized_picture(
    width: int, height: int, resolution: int
) -> None:
    # Of little contrast: Pillow clips what overshoots between its passes, whose order may differ.
    noise = np.random.default_rng((width, height)).integers(90, 160, (height, width, 3), np.uint8)
    picture = Image.fromarray(noise)
    cropped = crop(picture, resolution)
    assert cropped.picture.size == (resolution, resolution)
    scale = resolution / min(width, height)
    top, left = cropped.top_left
    for offset, side in ((top, height), (left, width)):
        assert 0 <= offset <= side * scale - resolution + 0.5
        assert abs(offset - (side * scale - resolution) / 2) <= 1
    if (width * scale).is_integer() and (height * scale).is_integer():
        size = round(width * scale), round(height * scale)
        whole = np.asarray(picture.resize(size, Image.Resampling.LANCZOS), np.int16)
        expected = whole[top : top + resolution, left : left + resolution]
        # Each of Pillow's two passes rounds, and the kernel may half again what the first one did.
        assert np.abs(np.asarray(cropped.picture, np.int16) - expected).max() <= 2


def test_a_picture_of_the_right_size_is_kept_as_it_is(photographs: list[Image.Image]) -> None:
    picture = photographs[0].crop((0, 0, 48, 40))
    cropped = crop(picture, 40)
    assert cropped.top_left == (0, 4)
    assert np.array_equal(np.asarray(cropped.picture), np.asarray(picture)[:, 4:44])


@pytest.mark.parametrize(
    ("prompts", "chosen", "change", "message"),
    [
        (40, 1, {}, r"prepare: \d+ pictures held out, but evaluation\.prompts 40 needs 80"),
        (4, 30, {}, r"prepare: \d+ pictures kept .* but evaluation\.selection is 30"),
        (4, 1, {"min_side": 61}, r"prepare: 0 pictures held out.*48 too small \(0000\.png"),
        (4, 1, {"held_out": 0.5, "selection": 0.4999}, "no pictures left to train on"),
    ],
)
def test_a_split_that_is_too_small_is_refused_and_nothing_made_is_lost(
    tmp_path: Path,
    photographs: list[Image.Image],
    decoded: Callable[[], int],
    prompts: int,
    chosen: int,
    change: dict[str, Any],
    message: str,
) -> None:
    source = from_folder(tmp_path / "source")
    write_pictures(source.path, photographs)
    params = {**SMALL, **change}
    with pytest.raises(UserError, match=message) as error:
        make_data(tmp_path, source, prompts=prompts, chosen=chosen, **params)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "data").exists()
    assert decoded() == 48
    with pytest.raises(UserError, match=message):
        make_data(tmp_path, source, prompts=prompts, chosen=chosen, **params)
    assert decoded() == 0


def test_the_evaluation_set_can_have_a_source_of_its_own(
    tmp_path: Path, photographs: list[Image.Image], decoded: Callable[[], int]
) -> None:
    write_pictures(tmp_path / "source", photographs[:30])
    write_pictures(tmp_path / "fixed", photographs[30:], first=30)
    own, source = from_folder(tmp_path / "fixed"), from_folder(tmp_path / "source")
    params = {**SMALL, "held_out": 0.0}
    make_data(tmp_path, source, prompts=9, own=own, **params)
    real = read_set(places(tmp_path).evaluation, "real")
    assert real.captions == tuple(f"piece {i}" for i in range(30, 39))
    assert account(tmp_path).counts["held_out"] == 0
    before = sha256(places(tmp_path).evaluation)
    decoded()
    write_pictures(tmp_path / "source", photographs[:10], first=-10)  # sort before all others
    make_data(tmp_path, source, prompts=9, own=own, **params)
    assert sha256(places(tmp_path).evaluation) == before
    with pytest.raises(
        UserError, match=r"evaluation\.source holds 18 good pictures, but .*needs 20"
    ):
        make_data(tmp_path, source, prompts=10, own=own, **params)
