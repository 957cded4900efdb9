"""Sources give the pictures and captions that are there, and a reason for each that is not."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from lcm_lora.data.sources import (
    Found,
    Rejection,
    Sample,
    decode,
    everything,
    judge,
    open_units,
)
from lcm_lora.data.units import list_units
from lcm_lora.errors import UserError
from lcm_lora.hashes import Hashes
from lcm_lora.params.sources import FolderSource, ShapesSource, Source, WebdatasetSource
from lcm_lora.shapes.scenes import draw_scene, render


def read_source(source: Source, resolution: int = 32) -> list[Found]:
    """Return all that is in a source, as its first look and its readers give it."""
    with tempfile.TemporaryDirectory() as folder, Hashes(Path(folder) / "hashes") as hashes:
        units = list(list_units(source, hashes, {}))
        opened = open_units(source, units, resolution, hashes)
        return [judge(raw) for _, read in opened for raw in read(everything)]


def read_folder(path: Path) -> list[Found]:
    return read_source(FolderSource(kind="folder", path=path))


def read_webdataset(path: Path) -> list[Found]:
    return read_source(WebdatasetSource(kind="webdataset", path=path))


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """Return a picture as a file's bytes."""
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return content.getvalue()


def write_samples(tar: Path, samples: list[dict[str, object]]) -> None:
    """Write a shard as other people do, with webdataset's own writer."""
    with webdataset.TarWriter(str(tar), encoder=False) as writer:
        for i, sample in enumerate(samples):
            writer.write({"__key__": f"{i:06d}"} | sample)


def test_each_shapes_sample_is_its_scene() -> None:
    found = read_source(ShapesSource(count=1030, seed=5), 8)
    assert len(found) == 1030
    for index in (0, 1, 1023, 1024, 1029):
        sample, scene = found[index], draw_scene(5, index)
        assert isinstance(sample, Sample)
        assert sample.caption == scene.caption
        assert np.array_equal(np.asarray(sample.picture), render([scene], 8)[0])


def test_a_folder_is_read_below_and_by_name(tmp_path: Path, photographs: list[Image.Image]) -> None:
    names = ["b.png", "a/z.webp", "a/b/c.jpeg", "c.JPG"]
    for name, picture in zip(names, photographs, strict=False):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
        path.with_suffix(".txt").write_text(f"  {name}\n")
    (tmp_path / "notes.md").write_text("no picture, and not looked at")
    found = read_folder(tmp_path)
    assert [sample.name for sample in found] == sorted(names)
    assert all(isinstance(s, Sample) and s.caption == s.name for s in found)


def test_a_side_file_goes_before_the_nearest_metadata(
    tmp_path: Path, photographs: list[Image.Image]
) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    for folder, name in ((tmp_path, "outer"), (inner, "near"), (inner, "far"), (inner, "side")):
        photographs[0].save(folder / f"{name}.png")
    (inner / "side.caption").write_text("from the side file")
    far = [f"inner/{name}.png" for name in ("near", "far", "side")] + ["outer.png"]
    near = ["near.png", "side.png", "gone.png"]
    for folder, names, text in ((tmp_path, far, "far\u2028away"), (inner, near, "near")):
        rows = [{"file_name": name, "text": text} for name in names]
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    captions = {
        found.name: found.caption if isinstance(found, Sample) else found.reason
        for found in read_folder(tmp_path)
    }
    assert captions == {
        "inner/far.png": "far\u2028away",
        "inner/gone.png": "not a picture",
        "inner/near.png": "near",
        "inner/side.png": "from the side file",
        "outer.png": "far\u2028away",
    }


def test_a_folder_and_a_tar_of_the_same_files_agree(
    tmp_path: Path, photographs: list[Image.Image]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    samples: list[dict[str, object]] = []
    for i, picture in enumerate(photographs[:4]):
        content = encoded(picture, "JPEG", quality=90)
        (folder / f"{i:06d}.jpg").write_bytes(content)
        (folder / f"{i:06d}.txt").write_text(f"caption {i}")
        samples.append({"jpg": content, "txt": f"caption {i}".encode()})
    write_samples(tmp_path / "a.tar", samples)
    apart = read_folder(folder)
    together = read_webdataset(tmp_path / "a.tar")
    assert len(apart) == len(together) == 4
    for one, other in zip(apart, together, strict=True):
        assert isinstance(one, Sample)
        assert isinstance(other, Sample)
        assert (one.caption, one.sha256) == (other.caption, other.sha256)
        assert np.array_equal(np.asarray(one.picture), np.asarray(other.picture))


def test_captions_of_tars(tmp_path: Path, photographs: list[Image.Image]) -> None:
    picture = encoded(photographs[0])
    cases: list[tuple[dict[str, bytes], str]] = [
        ({"txt": "a tree ✓ \n".encode()}, "a tree ✓"),
        ({"txt": b"\xef\xbb\xbfmarked"}, "marked"),
        ({"json": b'{"caption": "from json"}'}, "from json"),
        ({"txt": b"text", "json": b'{"caption": "json"}'}, "text"),
        ({"json": b'{"caption": null}'}, "no caption"),
        ({"json": b'{"caption": "half \\ud83d"}'}, "no caption"),
        ({"json": b"[1, 2"}, "no caption"),
        ({"json": b'{"caption":' + b"[" * 100_000}, "no caption"),
        ({"json": b"[1, 2]"}, "no caption"),
        ({"txt": b"caf\xe9"}, "no caption"),
        ({}, "no caption"),
        ({"txt": b" \n"}, "empty caption"),
    ]
    (tmp_path / "sub").mkdir()
    write_samples(tmp_path / "sub/a.tar", [{"png": picture, **extra} for extra, _ in cases])
    write_samples(tmp_path / "b.tar", [{"txt": b"alone"}, {"jpg": b"no jpeg", "txt": b"broken"}])
    found = read_webdataset(tmp_path)
    assert [x.name for x in found[:2]] == ["000000", "000001"]
    told = [x.caption if isinstance(x, Sample) else x.reason for x in found]
    assert told == ["not a picture", "not a picture"] + [expected for _, expected in cases]


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
def test_a_cut_tar_keeps_what_came_before(
    tmp_path: Path, photographs: list[Image.Image], compress: bool
) -> None:
    whole, cut = tmp_path / "whole.tar", tmp_path / "cut"
    cut.mkdir()
    samples: list[dict[str, object]] = [
        {"png": encoded(picture), "txt": b"a piece"} for picture in photographs[:5]
    ]
    write_samples(whole, samples)
    expected = [x.sha256 for x in read_webdataset(whole) if isinstance(x, Sample)]
    assert len(expected) == 5
    content = whole.read_bytes().rstrip(b"\0")
    if compress:
        content = gzip.compress(content)
    lengths = [0, 1, 511, 512, 700, *range(1024, len(content), len(content) // 23 // 512 * 512)]
    read = []
    for length in lengths:
        (cut / "x.tar").write_bytes(content[:length])
        found = read_webdataset(cut)
        kept = [x.sha256 for x in found if isinstance(x, Sample)]
        assert kept == expected[: len(kept)], length
        assert found[-1] == Rejection("", "truncated shard"), length
        # Of the sample that the cut runs through, the picture may be there and the caption not.
        assert len(found) - len(kept) <= 2, length
        read.append(len(kept))
    assert sorted(read) == read
    assert read[-1] >= 4


def test_a_tar_with_a_name_twice_is_an_error(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for _ in range(2):
            tar.addfile(tarfile.TarInfo("0.txt"), io.BytesIO())
    with pytest.raises(UserError, match=r"a\.tar: 0\.txt: duplicate .*anew"):
        read_webdataset(tmp_path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(
    photographs: list[Image.Image], orientation: int
) -> None:
    # The tag says how to turn the stored picture; store it turned the other way round.
    turn = Image.Transpose
    back = {
        2: turn.FLIP_LEFT_RIGHT,
        3: turn.ROTATE_180,
        4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE,
        6: turn.ROTATE_90,
        7: turn.TRANSVERSE,
        8: turn.ROTATE_270,
    }
    upright = photographs[0]
    stored = upright.transpose(back[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    seen = decode(encoded(stored, exif=exif))
    assert seen is not None
    assert np.array_equal(np.asarray(seen), np.asarray(upright))


def test_transparency_is_white(photographs: list[Image.Image]) -> None:
    picture = photographs[0].convert("RGBA")
    opaque = decode(encoded(picture))
    picture.putalpha(0)
    clear = decode(encoded(picture))
    half = decode(encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 51))))
    assert opaque is not None
    assert clear is not None
    assert half is not None
    assert np.array_equal(np.asarray(opaque), np.asarray(photographs[0]))
    assert np.all(np.asarray(clear) == 255)
    assert np.all(np.asarray(half) == (255, 204, 204))


def test_greys_and_palettes_become_colours(photographs: list[Image.Image]) -> None:
    grey = photographs[0].convert("L")
    palette = photographs[0].quantize(64)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    holed = Image.new("P", (4, 4), 1)
    holed.putpalette([0, 0, 0, 9, 8, 7])
    for stored, expected in (
        (encoded(grey), grey.convert("RGB")),
        (encoded(deep), grey.convert("RGB")),
        (encoded(palette), palette.convert("RGB")),
        (encoded(holed, transparency=1), Image.new("RGB", (4, 4), "white")),
        (encoded(holed, transparency=0), Image.new("RGB", (4, 4), (9, 8, 7))),
    ):
        seen = decode(stored)
        assert seen is not None
        assert np.array_equal(np.asarray(seen), np.asarray(expected))


def test_what_is_no_picture(
    photographs: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = encoded(photographs[0], "JPEG")
    for content in (b"", b"text", whole[: len(whole) // 2], encoded(photographs[0], "GIF")):
        assert decode(content) is None
    assert decode(whole) is not None
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 80 * 60 - 1)
    assert decode(whole) is None


def test_names_that_are_no_text_can_still_be_written_about(
    tmp_path: Path, photographs: list[Image.Image]
) -> None:
    photographs[0].save(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "half \\ud83d.png", "text": "a"}\n')
    names = [found.name for found in read_folder(tmp_path)]
    assert names == ["caf\\udce9.png", "half \\ud83d.png"]


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    for read in (read_folder, read_webdataset):
        with pytest.raises(UserError, match=f"{missing}: no such"):
            read(missing)
    for read, problem in ((read_folder, "no pictures"), (read_webdataset, "no tars")):
        with pytest.raises(UserError, match=problem):
            read(tmp_path)
    (tmp_path / "metadata.jsonl").write_bytes(b'{"file_name": "a.png"}\n\n{"file": "b.png"}\n')
    with pytest.raises(UserError, match=r"metadata\.jsonl:3: not"):
        read_folder(tmp_path)


def test_what_leads_out_of_the_source_is_not_read(
    tmp_path: Path, photographs: list[Image.Image]
) -> None:
    folder, secret = tmp_path / "source", tmp_path / "secret"
    secret.mkdir()
    (folder / "inner").mkdir(parents=True)
    for place in (folder / "own.png", secret / "a.png"):
        photographs[0].save(place)
        place.with_suffix(".txt").write_text("a caption")
    (folder / "link.png").symlink_to(secret / "a.png")
    (folder / "link.txt").write_text("a caption")
    (folder / "door").symlink_to(secret)
    (folder / "beside.png").symlink_to(folder / "own.png")
    (folder / "beside.txt").write_text("a link within")
    rows = [{"file_name": name, "text": "a"} for name in ("../secret/a.png", f"{secret}/a.png")]
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    found = {x.name: getattr(x, "reason", "read") for x in read_folder(folder)}
    assert found == {
        "../secret/a.png": "outside the source",
        f"{secret}/a.png": "outside the source",
        "beside.png": "read",
        "door": "outside the source",
        "link.png": "outside the source",
        "own.png": "read",
    }
    write_samples(secret / "a.tar", [{"txt": b"a"}])
    (folder / "a.tar").symlink_to(secret / "a.tar")
    with pytest.raises(UserError, match=r"a\.tar: a link that leads out of"):
        read_webdataset(folder)


def test_a_source_that_changes_after_the_first_look_is_named(
    tmp_path: Path, photographs: list[Image.Image], hashes: Hashes
) -> None:
    folder, tar = tmp_path / "folder", tmp_path / "tars" / "a.tar"
    folder.mkdir()
    tar.parent.mkdir()

    def fill() -> None:
        for i in range(3):
            photographs[i].save(folder / f"{i}.png")
            (folder / f"{i}.txt").write_text("a piece")
        write_samples(tar, [{"png": encoded(photographs[0]), "txt": b"a piece"}])

    def grow() -> None:
        with tar.open("ab") as file:
            file.write(bytes(10240))

    changes: list[tuple[Source, Callable[[], object], str]] = [
        (FolderSource(kind="folder", path=folder), (folder / "1.png").unlink, "1.png"),
        (FolderSource(kind="folder", path=folder), (folder / "2.txt").unlink, "2.txt"),
        (
            FolderSource(kind="folder", path=folder),
            lambda: (folder / "0.txt").write_text("another"),
            "0.png and the pictures that follow",
        ),
        (WebdatasetSource(kind="webdataset", path=tar.parent), grow, "a.tar"),
        (WebdatasetSource(kind="webdataset", path=tar.parent), tar.unlink, "a.tar"),
    ]
    for source, change, named in changes:
        fill()
        units = list(list_units(source, hashes, {}))
        opened = list(open_units(source, units, 32, hashes))
        change()
        with pytest.raises(UserError, match="not what the first look found") as error:
            [judge(raw) for _, read in opened for raw in read(everything)]
        assert named in str(error.value)
        assert "\n" not in str(error.value)
    # The same, while it is read.
    fill()
    source = WebdatasetSource(kind="webdataset", path=tar.parent)
    ((_, read),) = open_units(source, list(list_units(source, hashes, {})), 32, hashes)
    reading = read(everything)
    next(reading)
    grow()
    with pytest.raises(UserError, match="not what the first look found"):
        list(reading)
