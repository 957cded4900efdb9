"""Tars are a function of their members, read back as written, and are not taken when broken."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lcm_lora.data.pictures import encoded, pixels, suffix_of
from lcm_lora.data.shard import ShardIndex
from lcm_lora.data.shards import (
    ShardSample,
    has_end,
    new_tar,
    read_shard,
    read_tar_members,
    write_tar,
)
from lcm_lora.errors import UserError
from lcm_lora.records import read_record

NAMES = st.text(alphabet="abcdefgh0123._", min_size=1, max_size=30).filter(lambda n: n.strip("."))
MEMBERS = st.dictionaries(NAMES, st.binary(max_size=2000), max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
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
    content = encoded(photographs[0], None)
    assert content == encoded(photographs[0], None)
    assert np.array_equal(pixels(content), np.asarray(photographs[0]))
    assert (suffix_of(content), suffix_of(encoded(photographs[0], 90))) == ("png", "webp")


def all_samples(shards: Path) -> list[ShardSample]:
    index = read_record(shards / "index.json", ShardIndex, "")
    return [sample for shard in index.shards for sample in read_shard(shards, shard)]


def test_webdataset_reads_our_shards(shards: Path) -> None:
    index = read_record(shards / "index.json", ShardIndex, "")
    urls = [str(shards / shard.file) for shard in index.shards]
    theirs = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    ours = all_samples(shards)
    assert len(ours) == len(theirs) > 10
    for one, other in zip(ours, theirs, strict=True):
        assert one.key == other["__key__"]
        assert one.caption == other["txt"]
        assert one.record.model_dump(mode="json") == other["json"]
        assert np.array_equal(one.picture, other["png"])


@pytest.mark.parametrize("harm", ["edit", "cut", "remove", "swap"])
def test_a_shard_that_is_not_as_listed_is_an_error(tmp_path: Path, shards: Path, harm: str) -> None:
    copy = tmp_path / "shards"
    shutil.copytree(shards, copy)
    first, second = read_record(copy / "index.json", ShardIndex, "").shards[:2]
    path = copy / second.file
    content = bytearray(path.read_bytes())
    match harm:
        case "edit":
            content[600] ^= 1
            path.write_bytes(content)
        case "cut":
            path.write_bytes(content[:-512])
        case "swap":
            shutil.copy(copy / first.file, path)
        case _:
            path.unlink()
    assert len(list(read_shard(copy, first))) == first.samples
    with pytest.raises(UserError, match=rf"{second.file}: .* run `lcm-lora prepare`"):
        next(read_shard(copy, second))


def test_a_shard_holds_only_pictures_text_and_json(shards: Path) -> None:
    path = shards / read_record(shards / "index.json", ShardIndex, "").shards[0].file
    for name, content in read_tar_members(path):
        match name.partition(".")[2]:
            case "png":
                assert Image.open(io.BytesIO(content)).mode == "RGB"
            case suffix:
                assert suffix in {"txt", "json"}
                assert content.decode().strip() == content.decode()
