"""Extraction against direct network calls and earlier numbers, what is kept, and bad input."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from ruamel.yaml import YAML
from safetensors import safe_open
from seen import CELL, Looking, write_set
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from lcm_lora import layout
from lcm_lora.data.picture_sets import read_set
from lcm_lora.data.pictures import pixels as pixels_of
from lcm_lora.data.shards import read_tar_members
from lcm_lora.errors import UserError
from lcm_lora.files import sha256
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.networks import look_at_networks
from lcm_lora.params.reading import load_section
from lcm_lora.params.score import Score
from lcm_lora.records import write_record
from lcm_lora.seeing import features as module
from lcm_lora.seeing import viewers as viewers_module
from lcm_lora.seeing.attributes import attributes_of_captions
from lcm_lora.seeing.features import features
from lcm_lora.seeing.image_sets import generated_sets, painting, read_pictures, real_sets
from lcm_lora.seeing.looking import BATCH, exactly, look
from lcm_lora.seeing.viewers import Viewers
from lcm_lora.shapes import places
from lcm_lora.shapes.judge import Attributes, load_judge
from lcm_lora.shapes.scenes import Scene, draw_scenes, render
from lcm_lora.stages import features as stage
from lcm_lora.store import open_store

CPU = torch.device("cpu")
ROOT = Path(__file__).parent.parent.parent
Measured = tuple[dict[str, NDArray[Any]], dict[str, Any]]


def read(path: Path) -> Measured:
    with safe_open(path, framework="numpy") as file:
        names = file.keys()
        tensors = {name: file.get_tensor(name) for name in names}
    return tensors, json.loads(path.with_suffix(".json").read_text())


def test_captions_say_again_what_their_scenes_hold() -> None:
    scenes = draw_scenes(5, range(800))
    found, truth = attributes_of_captions([s.caption for s in scenes]), Attributes.of(scenes)
    assert torch.equal(found.figures, truth.figures)
    assert torch.equal(found.ground, truth.ground)
    assert found.figures.flatten(1).any(0).all()


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "a cat",
        "a small red circle",
        "a small red circle on a pink background",
        "a red small circle on a black background",
        "a small red circle, on a black background",
        "a small red circle on a black background, oil painting",
    ],
)
def test_other_captions_are_refused(caption: str) -> None:
    fine = draw_scenes(5, range(1))[0].caption
    with pytest.raises(UserError, match=r"caption 1 .* set score.attributes to false"):
        attributes_of_captions([fine, caption])


@pytest.fixture
def measured(image_sets: Any, looking: Looking) -> Measured:
    """Return what the stage writes about `pictures`."""
    return read(looking.at(image_sets()))


@pytest.fixture(scope="module")
def pixels(pictures: NDArray[np.uint8]) -> Tensor:
    """Return `pictures` as every judge takes them, float32 [N, 3, H, W] in -1..1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


@pytest.mark.parametrize(("size", "tolerance"), [("32", 3e-6), ("96", 1e-4)])
def test_numbers_are_those_of_clean_fid_and_pillow(
    looking: Looking, scenes: list[Scene], size: str, tolerance: float
) -> None:
    """Golden values of the shipped judges, from before anything was scaled on the device.

    Of fp32, whose last digits depend on the processor.
    """
    golden = json.loads((Path(__file__).parent / "golden_features.json").read_text())[size]
    captions = [scene.caption for scene in scenes]
    shifted = (*captions[:12], *captions[13:], captions[12])
    looking.judges = places.JUDGES
    viewers = Viewers(looking.job().networks, CPU).of(shifted)
    seen = look(list(render(scenes, int(size))), viewers, CPU)
    found = seen["features/shapes"]
    assert found[::6, :8] == pytest.approx(np.array(golden["features"]), abs=tolerance)
    norms = np.linalg.norm(found.astype(float), axis=1)
    assert norms == pytest.approx(np.array(golden["norms"]), rel=tolerance)
    assert seen["clip"] == pytest.approx(np.array(golden["clip"]), rel=tolerance)
    assert seen["attributes"].tolist() == golden["attributes"]


def test_features_equal_a_direct_call_of_the_network(
    measured: Measured, judges: Path, pixels: Tensor
) -> None:
    tensors, record = measured
    model = CLIPModel.from_pretrained(judges / "clip").eval()
    with torch.inference_mode():
        direct = model.get_image_features(pixels).pooler_output
    assert {name: values.dtype.name for name, values in tensors.items()} == {
        "features/shapes": "float32",
        "clip": "float32",
        "attributes": "float32",
    }
    assert tensors["features/shapes"] == pytest.approx(direct.numpy(), abs=1e-5)
    assert record["arrays"].keys() == tensors.keys()
    assert record["arrays"]["features/shapes"]["name"] == "shapes"
    assert (record["painter"], record["sampler"], record["nfe"]) == ("adapter", "lcm", 4)


def test_clip_equals_the_models_own_logits(
    measured: Measured, judges: Path, pixels: Tensor, scenes: list[Scene]
) -> None:
    model = CLIPModel.from_pretrained(judges / "clip").eval()
    words = CLIPTokenizer.from_pretrained(judges / "clip")
    tokens = words([s.caption for s in scenes], padding=True, return_tensors="pt")
    with torch.inference_mode():
        output = model(**tokens, pixel_values=pixels)
        cosines = output.logits_per_image.diagonal() / model.logit_scale.exp()
    assert measured[0]["clip"] == pytest.approx(100 * cosines.clamp(min=0).numpy(), abs=1e-3)


def test_attributes_are_the_judges_agreement(
    measured: Measured, judges: Path, pixels: Tensor, scenes: list[Scene]
) -> None:
    agreed = load_judge(judges).read(pixels).agree(Attributes.of(scenes))
    assert np.array_equal(measured[0]["attributes"], agreed.numpy())


def test_what_is_seen_does_not_depend_on_the_batch(
    looking: Looking, scenes: list[Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    views = Viewers(looking.job().networks, CPU).of(tuple(scene.caption for scene in scenes))
    pictures = list(render(scenes, 32))
    at_once = look(pictures, views, CPU)
    monkeypatch.setattr("lcm_lora.seeing.looking.BATCH", 5)
    for name, values in look(pictures, views, CPU).items():
        assert values == pytest.approx(at_once[name], abs=1e-4)


def test_tf32_stays_off_while_networks_look() -> None:
    assert torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        with exactly():
            assert not torch.backends.cudnn.allow_tf32
            assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False


def test_real_pictures_come_in_two_disjoint_sets(evaluation: Path, looking: Looking) -> None:
    job, out = looking.job(), looking.folder / "real"
    features(job, "real", real_sets(evaluation), out)
    tensors, record = read(out / "real.safetensors")
    others, other = read(out / "reference.safetensors")
    name = "features/shapes"
    assert tensors[name].shape == others[name].shape == (8, 64)
    assert record["painter"] == other["painter"] == "real"
    assert record["sampler"] is record["subject_sha256"] is None
    assert record["captions_sha256"] != other["captions_sha256"]
    sources = [read_set(evaluation, part).sources for part in ("real", "reference")]
    assert len(set(sources[0]) | set(sources[1])) == 16
    pngs = [
        png
        for part in ("real", "reference")
        for _, png in read_tar_members(evaluation / f"{part}.tar")
    ]
    direct = look([pixels_of(png) for png in pngs], {"it": job.viewers.features("shapes")}, CPU)
    assert np.vstack([tensors[name], others[name]]) == pytest.approx(direct["it"], abs=1e-5)


def test_without_attributes_any_caption_is_fine(image_sets: Any, looking: Looking) -> None:
    folder = image_sets(captions=("a cat",) * 24)
    with pytest.raises(UserError, match=r"set score.attributes to false"):
        looking.at(folder)
    assert not (looking.folder / "out").exists()
    tensors, record = read(looking.at(folder, attributes=False))
    assert "attributes" not in tensors.keys() | record["arrays"].keys()


def test_where_there_is_no_champion_nothing_is_looked_at(looking: Looking, tmp_path: Path) -> None:
    (tmp_path / "painted.json").write_text('{"captions": ["a cat"], "cells": []}')
    sets = generated_sets(tmp_path, "champion")
    features(looking.job(), "champion", sets, looking.folder / "out")
    assert sets == list((looking.folder / "out").iterdir()) == []


# What is kept


class Counted:
    """Counts the pictures that are decoded, and forbids loading on demand."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.decoded, self._patch = 0, patch
        decode = module._decoded

        def counted(*args: Any) -> Any:
            self.decoded += 1
            return decode(*args)

        patch.setattr(module, "_decoded", counted)

    def forbid_networks(self) -> None:
        for load in ("load_feature_network", "load_clip_scorer", "load_attribute_judge"):
            self._patch.delattr(viewers_module, load)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Return a count of decoded pictures, with chunks of ten."""
    monkeypatch.setattr(module, "CHUNK", 10)
    return Counted(monkeypatch)


def test_each_picture_is_decoded_once_for_all_networks(
    image_sets: Any, looking: Looking, counted: Counted
) -> None:
    twice = {name: {"kind": "shapes"} for name in ("shapes", "again")}
    tensors, _ = read(looking.at(image_sets(), networks=twice))
    assert counted.decoded == 24
    assert np.array_equal(tensors["features/shapes"], tensors["features/again"])


def test_a_second_run_writes_the_same_bytes_and_loads_nothing(
    image_sets: Any, looking: Looking, counted: Counted
) -> None:
    folder = image_sets()
    path = looking.at(folder, out="a")
    counted.forbid_networks()
    looking.at(folder, out="b")
    assert counted.decoded == 24
    assert sha256(looking.folder / "a") == sha256(looking.folder / "b")
    assert sorted(p.name for p in path.parent.iterdir()) == [f"{CELL}.json", f"{CELL}.safetensors"]
    assert read(path)[1]["sha256"] == sha256(path)


def test_the_same_pictures_of_another_painter_are_found(
    image_sets: Any, looking: Looking, counted: Counted
) -> None:
    """The champion of today is the adapter of yesterday, and today's adapter is another."""
    before, _ = read(looking.at(image_sets()))
    image_sets(pixels=render(draw_scenes(4, range(24)), 32))
    looking.at(looking.folder.parent / "images" / "adapter")
    assert counted.decoded == 48
    counted.forbid_networks()
    now, record = read(looking.at(image_sets("champion"), "champion"))
    assert record["painter"] == "champion"
    assert all(np.array_equal(now[name], before[name]) for name in before)


def test_other_captions_threads_or_networks_are_looked_at_anew(
    image_sets: Any, looking: Looking, counted: Counted, scenes: list[Scene]
) -> None:
    looking.at(image_sets())
    captions = [scene.caption for scene in scenes]
    looking.at(image_sets(captions=(*captions[:-1], captions[0])))
    assert counted.decoded == 24 + 4  # of the chunk that holds the last
    looking.at(image_sets(), attributes=False)
    assert counted.decoded == 24 + 4 + 24
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        looking.at(image_sets())
    finally:
        torch.set_num_threads(threads)
    assert counted.decoded == 24 + 4 + 24 + 24


def test_damaged_pieces_are_made_anew(image_sets: Any, looking: Looking, counted: Counted) -> None:
    folder = image_sets()
    looking.at(folder, out="a")
    piece = min((looking.folder / "store").glob("*/arrays.safetensors"))
    piece.write_bytes(piece.read_bytes()[:-1])
    looking.at(folder, out="b")
    assert 24 < counted.decoded <= 34
    assert sha256(looking.folder / "a") == sha256(looking.folder / "b")


def test_what_nobody_needs_any_more_is_dropped(
    image_sets: Any, looking: Looking, counted: Counted
) -> None:
    for seed in range(4):
        looking.at(image_sets(pixels=render(draw_scenes(seed, range(24)), 32)))
    pieces = list((looking.folder / "store").glob("*/arrays.safetensors"))
    assert len(pieces) == 2 * 3  # of this run and the one before


def test_memory_does_not_grow_with_the_pictures(
    image_sets: Any, looking: Looking, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, about two batches of decoded ones are held at a time."""
    monkeypatch.setattr(module, "CHUNK", 10_000)
    many = render(draw_scenes(1, range(256)), 32)
    folder = image_sets(keep=256, captions=("a cat",) * 256, pixels=many)
    ahead = []

    def noted(pictures: Any, *args: Any) -> Any:
        def pulled() -> Any:
            for consumed, picture in enumerate(pictures):
                ahead.append(counted.decoded - consumed)
                yield picture

        return look(pulled(), *args)

    monkeypatch.setattr(module, "look", noted)
    looking.at(folder, attributes=False)
    assert counted.decoded == 256
    assert max(ahead) <= BATCH + 1


def test_two_painters_of_the_same_pictures_do_not_disturb_each_other(
    image_sets: Any, judges: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 1)
    painters = {painter: image_sets(painter) for painter in ("adapter", "champion")}

    def run(painter: str) -> str:
        return sha256(Looking(tmp_path, judges).at(painters[painter], painter, out=painter))

    with ThreadPoolExecutor() as pool:
        one, other = pool.map(run, painters)
    assert one == other


def test_another_machine_looks_only_at_what_is_new_to_all(
    image_sets: Any, judges: Path, tmp_path: Path, counted: Counted
) -> None:
    shared = open_store(f"memory://{tmp_path}", "LCM_LORA_STORE")
    Looking(tmp_path / "a", judges, shared).at(image_sets())
    assert counted.decoded == 24
    Looking(tmp_path / "b", judges, shared).at(image_sets("champion"), "champion")
    assert counted.decoded == 24
    Looking(tmp_path / "alone", judges).at(image_sets("champion"), "champion")
    assert sha256(tmp_path / "b" / "out") == sha256(tmp_path / "alone" / "out")


KILLED = textwrap.dedent(
    """
    import os, signal, sys
    from pathlib import Path
    sys.path[:0] = [sys.argv[5], sys.argv[6]]
    from seen import Looking
    from lcm_lora.seeing import features as module
    module.CHUNK = 4
    keep, seen = module._keep, []
    def killed(*args):
        keep(*args)
        seen.append(args)
        if len(seen) == int(sys.argv[4]):
            os.kill(os.getpid(), signal.SIGKILL)
    module._keep = killed
    Looking(Path(sys.argv[1]), Path(sys.argv[2])).at(Path(sys.argv[3]))
    """
)


def test_a_killed_run_goes_on_within_a_set(
    image_sets: Any, judges: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 4)
    folder, store = image_sets(), tmp_path / "killed"
    # One thread in both, or the last bits differ and the pieces with them.
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    here = Path(__file__).parent
    arguments = [str(store), str(judges), str(folder), "2", str(here), str(here.parent)]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments], check=False, env=environment, cwd=ROOT
    )
    assert done.returncode == -signal.SIGKILL
    assert not (store / "out").exists()
    counted = Counted(monkeypatch)
    Looking(store, judges).at(folder)
    assert counted.decoded == 24 - 2 * 4
    Looking(tmp_path / "whole", judges).at(folder)
    assert sha256(store / "out") == sha256(tmp_path / "whole" / "out")


# The stage


def test_the_stage_looks_with_the_networks_of_the_first_look(
    image_sets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    clip = shutil.copytree(places.CLIP, tmp_path / "clip")
    processor = {"size": 32, "crop_size": 32, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (clip / "preprocessor_config.json").write_text(json.dumps(processor))
    params["score"]["networks"]["cmmd"] = {"kind": "clip", "path": "clip"}
    layout.PARAMS.write_text(json.dumps(params))
    folder = image_sets()
    shutil.copytree(folder, layout.IMAGES / "adapter")
    with pytest.raises(UserError, match=r"networks\.json: no such file; run `lcm-lora inventory`"):
        stage.run("adapter")
    with Hashes(layout.HASHES) as hashes:
        networks = look_at_networks(load_section(layout.PARAMS, Score), hashes)
    write_record(layout.INVENTORY / "networks.json", networks)
    stage.run("adapter")
    tensors, record = read(layout.FEATURES / "adapter" / f"{CELL}.safetensors")
    assert tensors["features/cmmd"] == pytest.approx(tensors["features/shapes"], abs=1e-4)
    assert record["arrays"]["features/cmmd"]["sha256"] == networks.features["cmmd"].sha256
    with pytest.raises(UserError, match=r"^nobody: not known here; choose one of adapter, champ"):
        stage.run("nobody")
    config = json.loads((clip / "config.json").read_text())
    (clip / "config.json").write_text(json.dumps(config | {"logit_scale_init_value": 1.0}))
    with pytest.raises(UserError, match=r"score\.networks\.cmmd clip: changed since the fir"):
        stage.run("adapter")


# Bad input


def test_a_tar_of_too_few_pictures_is_refused(
    image_sets: Any, looking: Looking, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"holds 9 pictures for 24 captions, 00000009.png is miss"):
        looking.at(image_sets(keep=9))
    with pytest.raises(UserError, match="run `lcm-lora generate ddim`"):
        looking.at(tmp_path / "nothing", "ddim")
    assert not (looking.folder / "out").exists()


def damaged_set(folder: Path, captions: tuple[str, ...], damage: Any) -> Path:
    """Write a set whose pictures were damaged before their tar was hashed."""
    pictures = render(draw_scenes(11, range(24)), 32)
    members = {}
    for index, picture in enumerate(pictures):
        content = io.BytesIO()
        Image.fromarray(picture).save(content, "PNG")
        members[f"{index:08d}.png"] = content.getvalue()
    damage(members)
    return write_set(folder / "images" / "adapter", "adapter", captions, members)


def cut(members: dict[str, bytes]) -> None:
    members["00000007.png"] = members["00000007.png"][:-30]


def flip(members: dict[str, bytes]) -> None:
    content = members["00000007.png"]
    members["00000007.png"] = content[:60] + bytes([content[60] ^ 1]) + content[61:]


def empty(members: dict[str, bytes]) -> None:
    members["00000007.png"] = b""


def leave_out(members: dict[str, bytes]) -> None:
    del members["00000007.png"]


def enlarge(members: dict[str, bytes]) -> None:
    content = io.BytesIO()
    Image.new("RGB", (40, 32)).save(content, "PNG")
    members["00000007.png"] = content.getvalue()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, r"00000007\.png is damaged \(.*\); run `lcm-lora generate adapter`$"),
        (flip, r"00000007\.png is damaged \(.*\); run `lcm-lora generate adapter`$"),
        (empty, r"00000007\.png is damaged \(.*\); run `lcm-lora generate adapter`$"),
        (leave_out, r"00000007\.png is missing, '00000008.png' is in its place; run `lcm-lora g"),
        (enlarge, r"32 x 32 and 40 x 32 pixels are in one set"),
    ],
)
def test_a_broken_picture_is_named(
    damage: Any, message: str, scenes: list[Scene], looking: Looking, tmp_path: Path
) -> None:
    folder = damaged_set(tmp_path, tuple(scene.caption for scene in scenes), damage)
    with pytest.raises(UserError, match=message) as error:
        looking.at(folder)
    assert "\n" not in str(error.value)
    assert str(folder / f"{CELL}.tar") in str(error.value) or damage is enlarge
    assert not (looking.folder / "out").exists()


def test_the_report_reads_only_what_it_shows(scenes: list[Scene], tmp_path: Path) -> None:
    folder = damaged_set(tmp_path, tuple(scene.caption for scene in scenes), flip)
    shown = read_pictures(folder / f"{CELL}.tar", [9, 0], painting("adapter"))
    assert np.array_equal(np.stack(shown), render(draw_scenes(11, range(24)), 32)[[9, 0]])
    with pytest.raises(UserError, match=r"00000007\.png is damaged"):
        read_pictures(folder / f"{CELL}.tar", [7], painting("adapter"))
    with pytest.raises(UserError, match="holds no picture 24; run `lcm-lora generate adapter`"):
        read_pictures(folder / f"{CELL}.tar", [3, 24], painting("adapter"))


def test_sets_that_do_not_belong_together_are_refused(image_sets: Any, tmp_path: Path) -> None:
    folder = image_sets()
    mend = "run `lcm-lora generate ddim`"
    with pytest.raises(UserError, match=f"is of adapter, not of ddim; {mend}"):
        generated_sets(folder, "ddim")
    painted = (folder / "painted.json").read_text()
    (folder / "painted.json").write_text(painted.replace("red", "tan"))
    with pytest.raises(UserError, match=r"is of other captions than painted.json holds"):
        generated_sets(folder, "adapter")
    (folder / "painted.json").write_text(json.dumps(json.loads(painted) | {"cells": []}))
    with pytest.raises(UserError, match=rf"painted.json: does not list {CELL}"):
        generated_sets(folder, "adapter")
