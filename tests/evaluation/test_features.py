"""Extraction against direct network calls, captions read back, and what bad input says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from lcm_lora.data.picture_sets import read_set
from lcm_lora.data.pictures import pixels as pixels_of
from lcm_lora.data.shards import read_tar_members
from lcm_lora.errors import UserError
from lcm_lora.evaluation.attributes import attributes_of_captions
from lcm_lora.evaluation.features import extract, features
from lcm_lora.evaluation.image_sets import generated_sets, real_sets
from lcm_lora.evaluation.networks import load_clip_scorer, load_feature_network
from lcm_lora.files import sha256
from lcm_lora.params.score import Score
from lcm_lora.shapes.judge import Attributes, load_judge
from lcm_lora.shapes.scenes import Scene, draw_scenes

CPU = torch.device("cpu")
Measured = tuple[dict[str, NDArray[Any]], dict[str, Any]]


def run(images: Path, out: Path, judges: Path, name: str = "lcm", **score: Any) -> Path:
    features(Score(**score), name, generated_sets(images, name), out, "cpu", judges)
    return next(iter(sorted(out.glob("*.safetensors"))))


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
def measured(image_sets: Any, judges: Path, tmp_path: Path) -> Measured:
    """Return what the stage writes about `pictures`."""
    return read(run(image_sets(), tmp_path / "out", judges))


@pytest.fixture(scope="module")
def pixels(pictures: NDArray[np.uint8]) -> Tensor:
    """Return `pictures` as every judge takes them, float32 [N, 3, H, W] in -1..1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def test_features_equal_a_direct_call_of_the_network(
    measured: Measured, judges: Path, pixels: Tensor
) -> None:
    tensors, record = measured
    model = CLIPModel.from_pretrained(judges / "clip").eval()
    with torch.inference_mode():
        direct = model.get_image_features(pixels).pooler_output
    assert tensors["features"].dtype == np.float32
    assert tensors["features"].shape == (24, 64)
    assert tensors["features"] == pytest.approx(direct.numpy(), abs=1e-5)
    assert record["network"]["name"] == "shapes"
    assert record["ms_per_image"] == 7.5


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


def test_extraction_does_not_depend_on_the_batch(
    tmp_path: Path, judges: Path, image_sets: Any
) -> None:
    network = load_feature_network("shapes", judges, CPU)
    folder = image_sets()
    files = []
    for i, content in enumerate(generated_sets(folder, "lcm")[0].pngs()):
        files.append(tmp_path / f"{i}.png")
        files[-1].write_bytes(content)
    one, all_at_once = (extract(files, network, batch, CPU, lambda *_: None) for batch in (1, 24))
    assert one == pytest.approx(all_at_once, abs=1e-5)


def test_larger_pictures_are_brought_to_the_networks_size(tmp_path: Path, judges: Path) -> None:
    from PIL import Image

    network = load_feature_network("shapes", judges, CPU)
    small = np.full((32, 32, 3), 200, np.uint8)
    for size in (32, 96):
        Image.fromarray(small).resize((size, size)).save(tmp_path / f"{size}.png")
    files = [tmp_path / "32.png", tmp_path / "96.png"]
    a, b = extract(files, network, 2, CPU, lambda *_: None)
    assert a == pytest.approx(b, abs=1e-4)


def test_a_second_run_writes_the_same_bytes(image_sets: Any, judges: Path, tmp_path: Path) -> None:
    folder = image_sets()
    path = run(folder, tmp_path / "a", judges)
    run(folder, tmp_path / "b", judges)
    assert sha256(tmp_path / "a") == sha256(tmp_path / "b")
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "steps-4_guidance-1.json",
        "steps-4_guidance-1.safetensors",
    ]
    assert read(path)[1]["sha256"] == sha256(path)


def test_real_pictures_come_in_two_disjoint_sets(
    evaluation: Path, judges: Path, tmp_path: Path
) -> None:
    features(Score(), "real", real_sets(evaluation), tmp_path / "real", "cpu", judges)
    tensors, record = read(tmp_path / "real" / "real.safetensors")
    others, other = read(tmp_path / "real" / "reference.safetensors")
    assert tensors["features"].shape == others["features"].shape == (8, 64)
    assert record["sampler"] == other["sampler"] == "real"
    assert record["captions_sha256"] != other["captions_sha256"]
    sources = [read_set(evaluation, name).sources for name in ("real", "reference")]
    assert len(set(sources[0]) | set(sources[1])) == 16
    network = load_feature_network("shapes", judges, CPU)
    pngs = [
        png
        for name in ("real", "reference")
        for _, png in read_tar_members(evaluation / f"{name}.tar")
    ]
    pixels = torch.from_numpy(np.stack([pixels_of(png) for png in pngs])).permute(0, 3, 1, 2)
    pixels = pixels.float()
    with torch.inference_mode():
        direct = network.embed(pixels).numpy()
    assert np.vstack([tensors["features"], others["features"]]) == pytest.approx(direct, abs=1e-5)


def test_long_captions_are_cut_and_keep_their_end(judges: Path) -> None:
    scorer = load_clip_scorer("shapes", judges, CPU)
    long = "a small red circle, " * 40
    other = "a small red circle, " * 60
    embedding, same, short = scorer.captions([long, other, "a small red circle"])
    assert torch.allclose(embedding, same, atol=1e-6)
    assert not torch.allclose(embedding, short, atol=1e-3)


def test_without_attributes_any_caption_is_fine(
    image_sets: Any, judges: Path, tmp_path: Path
) -> None:
    folder = image_sets(captions=("a cat",) * 24)
    with pytest.raises(UserError, match=r"set score.attributes to false"):
        run(folder, tmp_path / "a", judges)
    assert not (tmp_path / "a").exists()
    tensors, _ = read(run(folder, tmp_path / "b", judges, attributes=False))
    assert "attributes" not in tensors


def test_a_transformers_folder_with_its_own_preprocessing_scores_too(
    image_sets: Any, judges: Path, tmp_path: Path
) -> None:
    shutil.copytree(judges / "clip", tmp_path / "my-clip")
    with pytest.raises(UserError, match="not a CLIP folder"):
        run(image_sets(), tmp_path / "out", judges, clip=str(tmp_path / "my-clip"))
    halves = [0.5, 0.5, 0.5]
    settings = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": 32},
        "crop_size": {"height": 32, "width": 32},
        "image_mean": halves,
        "image_std": halves,
    }
    (tmp_path / "my-clip" / "preprocessor_config.json").write_text(json.dumps(settings))
    tensors, record = read(
        run(image_sets(), tmp_path / "out", judges, clip=str(tmp_path / "my-clip"))
    )
    ours, _ = read(run(image_sets(), tmp_path / "ours", judges))
    assert tensors["clip"] == pytest.approx(ours["clip"], abs=1e-3)
    assert record["clip"]["name"] == "my-clip"


@pytest.mark.parametrize(
    ("score", "message"),
    [
        ({"features": "nowhere.pt"}, r"score.features nowhere.pt: no such file"),
        ({"clip": "nowhere"}, r"nowhere: no such folder"),
    ],
)
def test_a_missing_network_is_named(
    score: dict[str, str], message: str, image_sets: Any, judges: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        run(image_sets(), tmp_path / "out", judges, **score)


@pytest.mark.parametrize(
    "file", ["judge.safetensors", "clip/model.safetensors", "clip/config.json"]
)
@pytest.mark.parametrize("content", [b"", b"[]", b"[" * 100_000, b"\xff\x00 torn"])
def test_a_damaged_network_ends_in_one_line(
    file: str, content: bytes, image_sets: Any, judges: Path, tmp_path: Path
) -> None:
    shutil.copytree(judges, tmp_path / "judges")
    (tmp_path / "judges" / file).write_bytes(content)
    with pytest.raises(UserError, match=rf"judges/{file.split('/')[0]}.*; (set|mend)") as error:
        run(image_sets(), tmp_path / "out", tmp_path / "judges")
    assert "\n" not in str(error.value)


def test_other_weights_than_the_2015_inception_are_refused(
    image_sets: Any, judges: Path, tmp_path: Path
) -> None:
    (tmp_path / "inception-2015-12-05.pt").write_bytes(b"something else")
    with pytest.raises(UserError, match="not the 2015 Inception weights"):
        run(
            image_sets(),
            tmp_path / "out",
            judges,
            features=str(tmp_path / "inception-2015-12-05.pt"),
        )


class StandIn(torch.nn.Module):
    """Shaped as the 2015 Inception file: `layers` give 2048 features of scaled 299 px pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(12, 2048)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def test_an_inception_file_goes_through_clean_fids_own_path(
    image_sets: Any, judges: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    from cleanfid.fid import get_folder_features
    from cleanfid.inception_torchscript import InceptionV3W

    file = tmp_path / "inception-2015-12-05.pt"
    torch.jit.script(StandIn()).save(str(file))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    ends = (digest[:12], digest[-8:])
    monkeypatch.setattr("lcm_lora.evaluation.names._INCEPTION_SHA256", ends)
    folder = image_sets()
    tensors, record = read(run(folder, tmp_path / "out", judges, features=str(file)))
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i, content in enumerate(generated_sets(folder, "lcm")[0].pngs()):
        (pictures / f"{i:08d}.png").write_bytes(content)
    model = InceptionV3W(str(tmp_path), download=False)
    expected = get_folder_features(
        str(pictures), model, num_workers=0, batch_size=24, device=CPU, mode="clean", verbose=False
    )
    assert tensors["features"].shape == (24, 2048)
    assert tensors["features"] == pytest.approx(expected, abs=1e-5)
    assert record["network"] == {
        "name": "inception-2015-12-05",
        "sha256": digest,
        "preprocessing": "clean-fid: PIL bicubic to 299 px in float, clipped to 0..255",
    }


def test_a_tar_of_too_few_pictures_is_refused(
    image_sets: Any, judges: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="holds 9 pictures for 24 captions"):
        run(image_sets(keep=9), tmp_path / "out", judges)
    with pytest.raises(UserError, match="run `lcm-lora generate ddim`"):
        run(tmp_path / "nothing", tmp_path / "out", judges, name="ddim")


def test_sets_that_do_not_belong_together_are_refused(image_sets: Any, tmp_path: Path) -> None:
    folder = image_sets()
    with pytest.raises(UserError, match=r"is of lcm, not of ddim; run `lcm-lora generate ddim`"):
        generated_sets(folder, "ddim")
    captions = (folder / "captions.json").read_text()
    (folder / "captions.json").write_text(captions.replace("red", "tan"))
    with pytest.raises(UserError, match=r"is of other captions than captions.json holds"):
        generated_sets(folder, "lcm")
    (folder / "captions.json").write_text(captions)
    (folder / "latency.json").write_text('{"sets": {}}')
    with pytest.raises(UserError, match=r"latency.json: does not list steps-4_guidance-1"):
        generated_sets(folder, "lcm")
    (folder / "steps-4_guidance-1.tar").unlink()
    with pytest.raises(UserError, match=r"lcm: holds no image sets; run `lcm-lora generate lcm`"):
        generated_sets(folder, "lcm")
