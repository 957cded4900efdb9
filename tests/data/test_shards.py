"""Tars are a function of their members, read back as written, and are not taken when broken."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import webdataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lcm_lora.data.shards import (
    decode_png,
    encode_png,
    has_end,
    new_tar,
    read_split,
    read_tar_members,
    write_tar,
)
from lcm_lora.errors import UserError

NAMES = st.text(alphabet="abcdefgh0123._", min_size=1, max_size=30).filter(lambda n: n.strip("."))
MEMBERS = st.dictionaries(NAMES, st.binary(max_size=2000), max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(MEMBERS)
def test_members_come_back_in_order(tmp_path: Path, members: dict[str, bytes]) -> None:
    tar = tmp_path / "a.tar"
    write_tar(tar, members.items())
    assert list(read_tar_members(tar)) == list(members.items())
    before = tar.read_bytes()
    write_tar(tar, iter(members.items()))
    assert tar.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.tar"]


def test_members_carry_nothing_of_the_machine(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [("x", b"1"), ("y", b"2")])
    with tarfile.open(tmp_path / "a.tar") as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.mode) == (0, 0, 0, 0o644)
            assert (member.uname, member.gname) == ("", "")
    assert (tmp_path / "a.tar").stat().st_mode & 0o777 == 0o644


def test_a_failed_tar_leaves_the_old_one(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [("x", b"old")])
    with pytest.raises(KeyboardInterrupt), new_tar(tmp_path / "a.tar") as add:  # noqa: PT012
        add("x", b"new")
        raise KeyboardInterrupt
    assert list(read_tar_members(tmp_path / "a.tar")) == [("x", b"old")]
    assert os.listdir(tmp_path) == ["a.tar"]


def test_a_tar_cut_anywhere_is_an_error(tmp_path: Path) -> None:
    tar = tmp_path / "a.tar"
    write_tar(tar, [(f"{i}.bin", bytes([i + 1]) * 700) for i in range(4)])
    content = tar.read_bytes()
    assert has_end(tar)
    for length in range(0, 4 * 1536 + 1, 256):
        tar.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"a\.tar: .*; run `lcm-lora generate lcm`"):
            list(read_tar_members(tar, mend="lcm-lora generate lcm"))
    tar.unlink()
    with pytest.raises(UserError, match=r"a\.tar: no such file; run `lcm-lora prepare`"):
        list(read_tar_members(tar))


def test_a_png_is_lossless(photographs: list[Image.Image]) -> None:
    picture = np.asarray(photographs[0])
    content = encode_png(picture)
    assert content == encode_png(picture)
    assert np.array_equal(decode_png(content), picture)


def test_webdataset_reads_our_shards(shards: Path) -> None:
    urls = [str(path) for path in sorted((shards / "train").iterdir())]
    theirs = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    ours = list(read_split(shards, "train"))
    assert len(ours) == len(theirs) > 16
    for one, other in zip(ours, theirs, strict=True):
        assert one.key == other["__key__"]
        assert one.caption == other["txt"]
        assert one.record == other["json"]
        assert np.array_equal(one.picture, other["png"])


def test_a_limit_gives_the_first_samples(shards: Path) -> None:
    everything = [sample.key for sample in read_split(shards, "train")]
    for limit in (0, 1, 8, 9, len(everything), len(everything) + 1):
        keys = [sample.key for sample in read_split(shards, "train", limit)]
        assert keys == list(islice(everything, limit))


@pytest.mark.parametrize("harm", ["edit", "cut", "remove", "swap"])
def test_a_shard_that_is_not_as_listed_is_an_error(tmp_path: Path, shards: Path, harm: str) -> None:
    copy = tmp_path / "shards"
    shutil.copytree(shards, copy)
    shard = copy / "train/00001.tar"
    content = bytearray(shard.read_bytes())
    match harm:
        case "edit":
            content[600] ^= 1
            shard.write_bytes(content)
        case "cut":
            shard.write_bytes(content[:-512])
        case "swap":
            shutil.copy(copy / "train/00000.tar", shard)
        case _:
            shard.unlink()
    read = read_split(copy, "train")
    assert len(list(islice(read, 8))) == 8
    with pytest.raises(UserError, match=r"train/00001\.tar: .* run `lcm-lora prepare`"):
        next(read)


def test_a_manifest_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    for content, problem in ((None, "no such file"), ("{", "not valid"), ("[]", "not a manifest")):
        if content is not None:
            (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(UserError, match=rf"manifest\.json: {problem}.*`lcm-lora prepare`"):
            list(read_split(tmp_path, "train"))


def test_a_shard_holds_only_pictures_text_and_json(shards: Path) -> None:
    for name, content in read_tar_members(shards / "held_out/00000.tar"):
        match name.partition(".")[2]:
            case "png":
                assert Image.open(io.BytesIO(content)).mode == "RGB"
            case suffix:
                assert suffix in {"txt", "json"}
                assert content.decode().strip() == content.decode()
