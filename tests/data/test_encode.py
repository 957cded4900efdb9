"""The cache holds moments, captions and sizes, and only new shards are encoded."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from making import make_cache, make_data, places, shapes_base, shapes_inventory
from PIL import Image
from safetensors.torch import load_file
from tiny import open_nothing, open_tiny
from torch import Tensor

from lcm_lora import layout
from lcm_lora.data import encode as encoding
from lcm_lora.data.cache import CacheIndex
from lcm_lora.data.shard import ShardIndex
from lcm_lora.errors import UserError
from lcm_lora.files import sha256
from lcm_lora.params.sources import FolderSource, ShapesSource
from lcm_lora.records import read_record, write_record
from lcm_lora.shapes.scenes import draw_scenes, render
from lcm_lora.stages import encode as stage
from lcm_lora.store import open_store

ROOT = Path(__file__).parent.parent.parent
MakeBase = Callable[[], Any]


@pytest.fixture
def project(data: Path, tmp_path: Path) -> Path:
    """Return a copy of prepared data."""
    shutil.copytree(data / "data", tmp_path / "data")
    return tmp_path


def shards_of(project: Path) -> list[Path]:
    """Return the shards in the order of their index."""
    folder = places(project).shards
    return [folder / s.file for s in read_record(folder / "index.json", ShardIndex, "").shards]


def files_of(project: Path) -> list[Path]:
    """Return what was encoded of each shard, in the order of the cache's index."""
    folder = project / "data" / "cache"
    return [folder / s.file for s in read_record(folder / "index.json", CacheIndex, "").shards]


def read_directly(project: Path) -> tuple[Tensor, list[str], list[dict[str, Any]]]:
    """Return pictures in -1..1, captions and records of the training shards, without our reader."""
    pictures, captions, records = [], [], []
    for path in shards_of(project):
        with tarfile.open(path) as tar:
            members = {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]
        for key in sorted({name.partition(".")[0] for name in members}):
            pictures.append(np.asarray(Image.open(io.BytesIO(members[f"{key}.png"]))))
            captions.append(members[f"{key}.txt"].decode())
            records.append(json.loads(members[f"{key}.json"]))
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).double() / 255 * 2 - 1
    return pixels, captions, records


def joined(project: Path, name: str) -> Tensor:
    """Return a tensor of all shards of a cache."""
    return torch.cat([load_file(path)[name] for path in files_of(project)])


def texts(path: Path) -> list[str]:
    """Return the captions of one shard of a cache, without our reader."""
    tensors = load_file(path)
    content = bytes(tensors["captions"].tolist())
    ends = tensors["ends"].tolist()
    return [content[a:b].decode() for a, b in zip([0, *ends], ends, strict=False)]


def test_a_cache_is_what_the_base_computes(project: Path, tiny_base: MakeBase) -> None:
    base = tiny_base()
    make_cache(project, lambda _: base, batch=5)
    pixels, captions, records = read_directly(project)
    with torch.inference_mode():
        expected = tiny_base().vae.double().encode(pixels).latent_dist
    for name in ("mean", "std"):
        stored = joined(project, name)
        assert stored.dtype == torch.float16
        # Half precision rounds by 2^-11 of a value, and by 2^-25 near zero.
        torch.testing.assert_close(
            stored.double(), getattr(expected, name), rtol=2**-11 + 1e-4, atol=1e-5
        )
    assert [t for path in files_of(project) for t in texts(path)] == captions
    assert joined(project, "time_ids").tolist() == [
        [*record["original_size"], *record["crop_top_left"], 16, 16] for record in records
    ]


def test_the_index_adds_up(project: Path, tiny_base: MakeBase) -> None:
    cache = make_cache(project, lambda _: tiny_base(), batch=8)
    shards = read_record(places(project).shards / "index.json", ShardIndex, "")
    index = read_record(cache / "index.json", CacheIndex, "")
    assert index.about.scaling_factor == 0.7
    assert index.about.shape == (3, 8, 8)
    assert index.samples == shards.samples
    assert index.shards_sha256 == sha256(places(project).shards / "index.json")
    assert [shard.samples for shard in index.shards] == [s.samples for s in shards.shards]
    for shard in index.shards:
        assert load_file(cache / shard.file)["mean"].shape == (shard.samples, 3, 8, 8)
        assert sha256(cache / shard.file) == shard.sha256
    assert {path.stat().st_mode & 0o777 for path in cache.rglob("*.*")} == {0o644}


def test_the_batch_changes_nothing_but_speed(
    project: Path, tmp_path: Path, tiny_base: MakeBase
) -> None:
    found = []
    for batch in (1, 3, 64, 3):
        cache = make_cache(project, lambda _: tiny_base(), batch=batch)
        found.append(({n: joined(project, n) for n in ("mean", "std", "time_ids")}, sha256(cache)))
    assert found[1][1] == found[3][1]
    for tensors, _ in found[1:]:
        torch.testing.assert_close(found[0][0], tensors, rtol=2**-10, atol=1e-6)


def test_what_is_not_finite_is_named(project: Path, tiny_base: MakeBase) -> None:
    base = tiny_base()
    pictures, _, records = read_directly(project)
    encode_whole = base.vae.encode

    def encode_but_tenth(pixels: Tensor) -> Any:
        output = encode_whole(pixels)
        is_tenth = (pixels - pictures[10]).abs().amax((1, 2, 3)) < 1e-3
        output.latent_dist.mean[is_tenth, 0, 0, 0] = torch.nan
        return output

    base.vae.encode = encode_but_tenth
    with pytest.raises(UserError, match=rf"sample \S+ \({records[10]['source']}\): .*finite"):
        make_cache(project, lambda _: base, batch=3)
    assert not (project / "data" / "cache").exists()


def test_a_resolution_that_does_not_suit(project: Path, tiny_base: MakeBase) -> None:
    base = tiny_base()
    base.downsampling = 5
    with pytest.raises(UserError, match=r"prepare\.resolution 16: not a multiple of 5"):
        make_cache(project, lambda _: base, batch=8)


SIZES: dict[str, Any] = {
    "resolution": 8,
    "min_side": 8,
    "held_out": 0.05,
    "selection": 0.05,
    "shard_samples": 200,
}


def test_only_new_shards_are_encoded_to_the_bytes_of_a_run_from_nothing(
    tmp_path: Path, tiny_base: MakeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = 0
    encode = encoding._encoded

    def counting(autoencoder: Any, samples: Any, batch: int) -> Any:
        nonlocal encoded
        encoded += len(samples)
        return encode(autoencoder, samples, batch)

    monkeypatch.setattr(encoding, "_encoded", counting)
    counts = []
    for count in (3072, 3100, 3072):
        make_data(tmp_path, ShapesSource(count=count, seed=1), **SIZES)
        encoded = 0
        cache = make_cache(tmp_path, lambda _: tiny_base(), batch=64)
        counts.append(encoded)
    samples = read_record(cache / "index.json", CacheIndex, "").samples
    # The pieces of the last state are gone: what is kept is what an output links.
    assert counts[0] == samples
    assert counts[1] < 40
    assert counts[2] == 0
    anew = tmp_path / "anew"
    make_data(anew, ShapesSource(count=3072, seed=1), **SIZES)
    assert sha256(make_cache(anew, lambda _: tiny_base(), batch=64)) == sha256(cache)


@pytest.mark.parametrize("base", ["tiny", "shapes"])
def test_a_new_picture_between_others_is_all_that_is_encoded(
    base: str, tmp_path: Path, tiny_base: MakeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its shard is made anew, and the latents of its neighbours are copied, to the same bytes."""
    encoded: list[int] = []
    encode = encoding._encoded

    def counting(autoencoder: Any, samples: Any, batch: int) -> Any:
        encoded.append(len(samples))
        return encode(autoencoder, samples, batch)

    monkeypatch.setattr(encoding, "_encoded", counting)
    opened = shapes_base() if base == "shapes" else tiny_base()
    source = FolderSource(kind="folder", path=tmp_path / "source")
    source.path.mkdir()
    sizes = {"resolution": 32, "min_side": 32, "held_out": 0.3, "selection": 0.1}

    def put(names: range) -> None:
        for i, picture in zip(names, render(draw_scenes(9, names), 32), strict=True):
            Image.fromarray(picture).save(source.path / f"{i * 7919 % 10007:05d}.png")
            (source.path / f"{i * 7919 % 10007:05d}.txt").write_text(f"scene {i}")

    put(range(100))
    make_data(tmp_path, source, shard_samples=24, **sizes)
    make_cache(tmp_path, lambda _: opened, batch=16)
    put(range(100, 103))
    make_data(tmp_path, source, shard_samples=24, **sizes)
    encoded.clear()
    cache = make_cache(tmp_path, lambda _: opened, batch=16)
    assert 0 < sum(encoded) <= 3
    shutil.copytree(tmp_path / "data", tmp_path / "anew" / "data")
    anew = make_cache(tmp_path / "anew", lambda _: opened, batch=16)
    assert sha256(anew) == sha256(cache)


def share_of(project: Path, name: str) -> Path:
    """Return another machine's folder, which has the shards."""
    shutil.copytree(project / "data", project.parent / name / "data")
    return project.parent / name


def test_machines_encode_shares_and_one_puts_them_together_without_a_network(
    project: Path, tmp_path: Path, tiny_base: MakeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    encode = encoding._encode_shard

    def counting(job: Any, autoencoder: Any, key: str, *rest: Any) -> None:
        encoded.append(key)
        encode(job, autoencoder, key, *rest)

    monkeypatch.setattr(encoding, "_encode_shard", counting)
    shared = open_store(f"memory://{tmp_path}", "LCM_LORA_STORE")
    machines = [share_of(project, f"{tmp_path.name}-{i}") for i in range(3)]
    for i, machine in enumerate(machines, 1):
        out = make_cache(machine, lambda _: tiny_base(), shared=shared, share=(i, 3), batch=3)
        assert not out.exists()
        assert encoded
    assert len(encoded) == len(set(encoded)) == len(shards_of(project))
    again = share_of(project, f"{tmp_path.name}-again")
    make_cache(again, open_nothing, shared=shared, share=(2, 3), batch=3)
    assert not list((again / ".checkpoints" / "encode").glob("*")), "what is there stays there"
    cache = make_cache(project, open_nothing, shared=shared, batch=3)
    alone = make_cache(share_of(project, f"{tmp_path.name}-alone"), open_tiny, batch=3)
    assert sha256(cache) == sha256(alone)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return a function that works in another machine's folder, with shards and the shapes base."""
    sizes = {"resolution": 32, "min_side": 32, "shard_samples": 4}
    source = ShapesSource(count=40, seed=3)
    data = make_data(tmp_path / "prepared", source, held_out=0.4, selection=0.1, **sizes) / "data"

    def checked_out(name: str) -> Path:
        shutil.copytree(data, tmp_path / name / "data")
        shutil.copy(ROOT / "params.yaml", tmp_path / name)
        monkeypatch.chdir(tmp_path / name)
        write_record(layout.INVENTORY / "base.json", shapes_inventory())
        return tmp_path / name

    return checked_out


def test_the_stage_shares_its_work_among_machines(
    checkout: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("LCM_LORA_STORE", str(tmp_path / "store"))
        for share in ("1/2", "2/2"):
            machine = checkout(share[0])
            stage.run(share)
            assert f"encode {share}: " in capsys.readouterr().err
            assert not (machine / layout.CACHE).exists()
        together = checkout("together")
        patch.setattr(encoding, "moments", None)  # nothing is left to encode
        stage.run()
    alone = checkout("alone")
    stage.run()
    for made in (layout.CACHE, layout.LEDGERS):
        assert sha256(together / made) == sha256(alone / made)


@pytest.mark.parametrize("share", ["0/2", "3/2", "1", "1/0", "a/b", "-1/2", ""])
def test_what_is_no_share_is_refused(share: str) -> None:
    with pytest.raises(UserError, match=rf"--share {share}: no share; write it as 2/4"):
        stage.run(share)


def test_a_share_that_no_machine_would_find_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LCM_LORA_STORE", raising=False)
    with pytest.raises(UserError, match=r"--share 1/2: .* name the store .* in LCM_LORA_STORE"):
        stage.run("1/2")


def test_a_store_that_is_not_there_is_told_before_anything_loads(
    checkout: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout("here")
    monkeypatch.setenv("LCM_LORA_STORE", "https://me:secret@127.0.0.1:9/store")
    monkeypatch.delattr("lcm_lora.autoencoder.load_autoencoder")
    with pytest.raises(
        UserError, match=r"LCM_LORA_STORE .*127\.0\.0\.1:9/.*: cannot be used"
    ) as it:
        stage.run()
    assert "secret" not in str(it.value)


def test_another_machine_encodes_only_what_is_new_to_all(
    tmp_path: Path, photographs: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One new picture changes its shard; its neighbours' latents are copied from the old one."""
    encoded = 0
    encode = encoding._encoded

    def counting(autoencoder: Any, samples: Any, batch: int) -> Any:
        nonlocal encoded
        encoded += len(samples)
        return encode(autoencoder, samples, batch)

    monkeypatch.setattr(encoding, "_encoded", counting)
    source = FolderSource(kind="folder", path=tmp_path / "source")
    source.path.mkdir()
    shared = open_store(f"memory://{tmp_path}", "LCM_LORA_STORE")
    sizes = {"resolution": 16, "min_side": 16, "held_out": 0.3, "selection": 0.1}

    def caches(machine: str, pictures: range, store: Any) -> Path:
        for i in pictures:
            photographs[i].save(source.path / f"{i * 29 % 48:02d}.png")
            (source.path / f"{i * 29 % 48:02d}.txt").write_text(f"piece {i}")
        make_data(tmp_path / machine, source, shared=store, **sizes)
        return make_cache(tmp_path / machine, open_tiny, shared=store, batch=4)

    caches("a", range(45), shared)
    encoded = 0
    cache = caches("b", range(45, 48), shared)
    assert encoded <= 3
    assert sha256(caches("anew", range(0), None)) == sha256(cache)


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the program handles it."""


def test_a_killed_run_goes_on_to_the_same_bytes(
    project: Path, tmp_path: Path, tiny_base: MakeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(project / "data", whole / "data")
    expected = sha256(make_cache(whole, lambda _: tiny_base(), batch=3))
    moments, batches = encoding.moments, 0

    def dying(vae: Any, pictures: Any) -> Any:
        nonlocal batches
        batches += 1
        if batches == 5:
            raise Killed
        return moments(vae, pictures)

    monkeypatch.setattr(encoding, "moments", dying)
    with pytest.raises(Killed):
        make_cache(project, lambda _: tiny_base(), batch=3)
    assert not (project / "data" / "cache").exists()
    made_before = batches - 1
    assert sha256(make_cache(project, lambda _: tiny_base(), batch=3)) == expected
    samples = read_record(project / "data" / "cache" / "index.json", CacheIndex, "").samples
    assert made_before >= 3  # a shard of eight at least was whole
    assert batches < 5 + samples / 3


def test_what_decides_a_latent_decides_what_is_kept(
    project: Path, tiny_base: MakeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[int] = []

    def opened(number: int) -> Any:
        loaded.append(number)
        return tiny_base()

    make_cache(project, opened, "one base", batch=8)
    make_cache(project, opened, "one base", batch=8)
    assert len(loaded) == 1
    make_cache(project, opened, "another base", batch=8)
    assert len(loaded) == 2
    monkeypatch.setattr(encoding, "code_sha256", lambda module: "other code")
    make_cache(project, opened, "another base", batch=8)
    assert len(loaded) == 3


def test_processes_share_the_shards_to_the_same_bytes(project: Path) -> None:
    alone = sha256(make_cache(project, open_tiny, batch=3))
    shutil.rmtree(project / ".checkpoints")
    assert sha256(make_cache(project, open_tiny, batch=3, processes=2)) == alone


def test_an_error_in_a_process_is_the_same_one_line(project: Path) -> None:
    with pytest.raises(UserError, match=r"base\.model tiny: cannot be loaded by process \d"):
        make_cache(project, open_nothing, batch=3, processes=2)


WAITING = """
import time
from pathlib import Path
from lcm_lora.data.encode import Job, encode
from lcm_lora.hashes import Hashes
from lcm_lora.params.encode import Encode
from lcm_lora.pieces import Pieces

def open_slowly(number):
    Path("here", str(number)).touch()
    time.sleep(600)

if __name__ == "__main__":
    params = Encode(batch=3, processes=2)
    pieces = Pieces(Path("pieces"), Hashes(Path("hashes.sqlite")))
    job = Job(params, Path("data/shards"), pieces, Path("parts.sqlite"), {}, open_slowly)
    encode(job, Path("cache"), Path("ledger.json"))
"""


def test_a_killed_run_leaves_no_process(project: Path) -> None:
    (project / "here").mkdir()
    (project / "waiting.py").write_text(WAITING)
    run = subprocess.Popen([sys.executable, "waiting.py"], cwd=project)
    while len(list((project / "here").iterdir())) < 2 and run.poll() is None:
        time.sleep(0.1)
    family = psutil.Process(run.pid).children(recursive=True)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive
