"""Preparing accounts for every picture, splits by content, and appends without touching the old."""

from __future__ import annotations

import hashlib
import json
import shutil
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lcm_lora.data.prepare import crop, is_held_out, prepare
from lcm_lora.data.shards import ShardSample, Split, read_split
from lcm_lora.data.sources import Sample
from lcm_lora.errors import UserError
from lcm_lora.files import sha256
from lcm_lora.params import FolderSource, Prepare, ShapesSource

SPLITS: tuple[Split, Split] = ("train", "held_out")


def write_pictures(folder: Path, pictures: list[Image.Image], first: int = 0) -> None:
    """Write pictures with captions, named by number."""
    folder.mkdir(exist_ok=True)
    for i, picture in enumerate(pictures, first):
        picture.save(folder / f"{i:04d}.png", compress_level=1)
        (folder / f"{i:04d}.txt").write_text(f"piece {i}")


def section(folder: Path, shard_samples: int = 4) -> Prepare:
    """Return parameters for a folder of pictures."""
    source = FolderSource(kind="folder", path=folder)
    return Prepare(
        source=source, resolution=32, min_side=40, held_out=0.3, shard_samples=shard_samples
    )


def all_samples(out: Path) -> list[ShardSample]:
    """Return the samples of both splits."""
    return list(chain.from_iterable(read_split(out, split) for split in SPLITS))


def test_every_picture_is_accounted_for(tmp_path: Path, photographs: list[Image.Image]) -> None:
    folder, out = tmp_path / "source", tmp_path / "shards"
    write_pictures(folder, photographs[:20])
    for i in range(7):
        photographs[i].crop((0, 0, 80, 39)).save(folder / f"small-{i}.png")
        (folder / f"small-{i}.txt").write_text("too small")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    (folder / "broken.txt").write_text("broken")
    photographs[30].save(folder / "silent.png")
    photographs[31].save(folder / "empty.png")
    (folder / "empty.txt").write_text("\n")
    prepare(section(folder), out)
    manifest = json.loads((out / "manifest.json").read_text())
    counts = manifest["counts"]
    assert (counts["read"], counts["rejected"]) == (30, 10)
    assert counts["train"] + counts["held_out"] == 20
    assert manifest["rejected"] == {
        "too small": {"count": 7, "examples": [f"small-{i}.png" for i in range(5)]},
        "not a picture": {"count": 1, "examples": ["broken.jpg"]},
        "no caption": {"count": 1, "examples": ["silent.png"]},
        "empty caption": {"count": 1, "examples": ["empty.png"]},
    }
    assert manifest["source"] == {"kind": "folder", "path": str(folder)}
    for split in SPLITS:
        listed = manifest["shards"][split]
        assert sum(shard["samples"] for shard in listed) == counts[split]
        assert [shard["samples"] for shard in listed[:-1]] == [4] * (len(listed) - 1)
        assert [shard["file"] for shard in listed] == sorted(
            path.relative_to(out).as_posix() for path in (out / split).iterdir()
        )
        assert [shard["sha256"] for shard in listed] == [sha256(out / s["file"]) for s in listed]


def test_samples_come_back_as_they_were_cropped(
    tmp_path: Path, photographs: list[Image.Image]
) -> None:
    folder, out = tmp_path / "source", tmp_path / "shards"
    write_pictures(folder, photographs)
    prepare(section(folder), out)
    samples = all_samples(out)
    assert sorted(sample.caption for sample in samples) == sorted(
        f"piece {i}" for i in range(len(photographs))
    )
    for sample in samples:
        original = folder / sample.record["source"]
        assert sample.caption == original.with_suffix(".txt").read_text()
        assert sample.record["sha256"] == sha256_of(original)
        source = Sample("", Image.open(original).convert("RGB"), "", "")
        assert np.array_equal(sample.picture, np.asarray(crop(source, 32)[0]))
    for split in SPLITS:
        keys = [sample.key for sample in read_split(out, split)]
        assert keys == [f"{i:08d}" for i in range(len(keys))]


def sha256_of(path: Path) -> str:
    """Return the hash of a file's bytes, without the code under test."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_same_source_gives_the_same_bytes(
    tmp_path: Path, photographs: list[Image.Image]
) -> None:
    folder = tmp_path / "source"
    write_pictures(folder, photographs[:20])
    prepare(section(folder), tmp_path / "one")
    for path in folder.iterdir():
        path.touch()
    prepare(section(folder), tmp_path / "other")
    assert sha256(tmp_path / "one") == sha256(tmp_path / "other")


def test_appended_data_leaves_every_full_shard(
    tmp_path: Path, photographs: list[Image.Image]
) -> None:
    folder = tmp_path / "source"
    write_pictures(folder, photographs[:30])
    prepare(section(folder), tmp_path / "before")
    write_pictures(folder, photographs[30:], first=30)
    prepare(section(folder), tmp_path / "after")
    shapes = [ShapesSource(count=count, seed=1) for count in (70, 90)]
    for source, name in zip(shapes, ("before-shapes", "after-shapes"), strict=True):
        made = Prepare(source=source, resolution=8, min_side=8, held_out=0.3, shard_samples=4)
        prepare(made, tmp_path / name)
    for before, after in (("before", "after"), ("before-shapes", "after-shapes")):
        shards = json.loads((tmp_path / before / "manifest.json").read_text())["shards"]
        full = [shard for split in SPLITS for shard in shards[split] if shard["samples"] == 4]
        assert len(full) >= 5
        for shard in full:
            kept = (tmp_path / after / shard["file"]).read_bytes()
            assert kept == (tmp_path / before / shard["file"]).read_bytes()


def test_copies_stay_together_and_appended_data_moves_no_sample(
    tmp_path: Path, photographs: list[Image.Image]
) -> None:
    folder, out = tmp_path / "source", tmp_path / "shards"
    write_pictures(folder, photographs[:20])
    for i in range(20):
        shutil.copy(folder / f"{i:04d}.png", folder / f"copy-{i}.png")
        (folder / f"copy-{i}.txt").write_text(f"again {i}")
    prepare(section(folder), out)
    train, held_out = (
        {sample.record["sha256"] for sample in read_split(out, split)} for split in SPLITS
    )
    assert not train & held_out
    assert len(train | held_out) == 20
    assert len(all_samples(out)) == 40


@given(st.binary(min_size=32, max_size=32), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_holds_out_a_superset(digest: bytes, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert is_held_out(digest.hex(), low) <= is_held_out(digest.hex(), high)


def test_the_share_is_what_was_asked_for(tmp_path: Path) -> None:
    source = ShapesSource(count=2000, seed=2)
    made = Prepare(source=source, resolution=8, min_side=8, held_out=0.2, shard_samples=4096)
    prepare(made, tmp_path / "shards")
    counts = json.loads((tmp_path / "shards/manifest.json").read_text())["counts"]
    # Five standard deviations of a fair draw.
    assert abs(counts["held_out"] - 400) < 5 * (2000 * 0.2 * 0.8) ** 0.5


@settings(deadline=None, max_examples=60)
@given(st.integers(8, 90), st.integers(8, 90), st.sampled_from((8, 16, 32)))
def test_a_crop_is_the_centre_of_the_resized_picture(
    width: int, height: int, resolution: int
) -> None:
    # Of little contrast: Pillow clips what overshoots between its passes, whose order may differ.
    noise = np.random.default_rng((width, height)).integers(90, 160, (height, width, 3), np.uint8)
    picture = Image.fromarray(noise)
    cropped, caption, record = crop(Sample("name", picture, "caption", "hash"), resolution)
    assert (cropped.size, caption) == ((resolution, resolution), "caption")
    assert record["original_size"] == (height, width)
    scale = resolution / min(width, height)
    top, left = record["crop_top_left"]
    for offset, side in ((top, height), (left, width)):
        assert 0 <= offset <= side * scale - resolution + 0.5
        assert abs(offset - (side * scale - resolution) / 2) <= 1
    if (width * scale).is_integer() and (height * scale).is_integer():
        size = round(width * scale), round(height * scale)
        whole = np.asarray(picture.resize(size, Image.Resampling.LANCZOS), np.int16)
        expected = whole[top : top + resolution, left : left + resolution]
        # Each of Pillow's two passes rounds, and the kernel may half again what the first one did.
        assert np.abs(np.asarray(cropped, np.int16) - expected).max() <= 2


def test_a_picture_of_the_right_size_is_kept_as_it_is(photographs: list[Image.Image]) -> None:
    picture = photographs[0].crop((0, 0, 48, 40))
    cropped, _, record = crop(Sample("", picture, "", ""), 40)
    assert record["crop_top_left"] == (0, 4)
    assert np.array_equal(np.asarray(cropped), np.asarray(picture)[:, 4:44])


def test_nothing_left_is_an_error_that_counts(
    tmp_path: Path, photographs: list[Image.Image]
) -> None:
    folder, out = tmp_path / "source", tmp_path / "shards"
    write_pictures(folder, [picture.crop((0, 0, 30, 30)) for picture in photographs[:3]])
    with pytest.raises(
        UserError, match=r"train and held_out: 3 read.* 3 too small \(0000\.png"
    ) as e:
        prepare(section(folder), out)
    assert "\n" not in str(e.value)
    write_pictures(folder, photographs[:1])
    with pytest.raises(UserError, match=r"3 read, .*2 too small"):
        prepare(section(folder), out)
    assert not out.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
