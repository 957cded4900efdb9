"""Networks as files: each kind against its reference, and what is said of a wrong one."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import pickle
import shutil
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cleanfid.resize import make_resizer
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from seen import Looking
from torch import Tensor, nn
from transformers import Dinov2Config, Dinov2Model
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from lcm_lora.errors import UserError
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.networks import look_at_networks, read_networks
from lcm_lora.params.score import Score
from lcm_lora.records import write_record
from lcm_lora.seeing.exported import load_exported
from lcm_lora.seeing.looking import look
from lcm_lora.seeing.network_files import find_networks
from lcm_lora.seeing.networks import load_clip_scorer, load_feature_network
from lcm_lora.seeing.preparation import DINOV2, Preparation, clip_preparation
from lcm_lora.seeing.resize import prepare
from lcm_lora.shapes.scenes import draw_scenes, render

CPU = torch.device("cpu")
Network = dict[str, Any]


def photograph(size: int) -> NDArray[np.uint8]:
    """Return a picture with detail of every fineness, uint8 [size, size, 3]."""
    from sklearn.datasets import load_sample_images

    picture = Image.fromarray(load_sample_images().images[0]).crop((80, 0, 507, 427))
    return np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS))


def as_batch(*pictures: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


@pytest.mark.parametrize(
    ("size", "side"), [(427, 299), (64, 299), (512, 299), (300, 224), (32, 32)]
)
def test_scaling_on_the_device_is_clean_fids(size: int, side: int) -> None:
    picture = photograph(size)
    wanted = make_resizer("PIL", False, "bicubic", (side, side))(picture)
    found = prepare(as_batch(picture), Preparation(side))[0].permute(1, 2, 0).numpy()
    assert np.abs(found - wanted).max() < 0.004
    assert np.abs(found - wanted).mean() < 5e-4
    assert found.min() >= 0
    assert found.max() <= 255
    if size == side:
        assert np.array_equal(found, picture)


PROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": 32},
    "crop_size": {"height": 32, "width": 32},
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.5, 0.6, 0.7],
}


@pytest.mark.parametrize("shape", [(96, 96), (100, 70), (32, 32), (40, 90)])
def test_clip_folders_prepare_as_their_own_processor(
    shape: tuple[int, int], tmp_path: Path
) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    picture = photograph(128)[: shape[0], : shape[1]]
    processor = CLIPImageProcessorPil.from_pretrained(str(tmp_path), local_files_only=True)
    wanted = processor(images=[Image.fromarray(picture)], return_tensors="pt").pixel_values
    how = clip_preparation(tmp_path, "score.clip")
    found = prepare(as_batch(picture), how)
    assert (found - wanted).abs().max() < 1.01 / 255 / 0.5  # a colour may be rounded otherwise
    assert (found - wanted).abs().mean() < 1e-4
    assert "bicubic with antialias to 32 px, its centre of 32 px, rounded" in str(how)


# Files


class StandIn(nn.Module):
    """Shaped as the 2015 Inception file: `layers` give 2048 features of scaled 299 px pictures."""

    def __init__(self, features: int = 2048) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, features))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def script(network: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(network).save(str(path))
    return path


def export(network: nn.Module, path: Path, side: int, fixed: bool = False) -> Path:
    shapes = None if fixed else ({0: torch.export.Dim("batch")},)
    example = (torch.zeros(2, 3, side, side),)
    torch.export.save(torch.export.export(network.eval(), example, dynamic_shapes=shapes), path)
    return path


Seen = Callable[..., NDArray[np.float32]]


@pytest.fixture
def seen(looking: Looking, pictures: NDArray[np.uint8]) -> Seen:
    """Return a function that looks at `pictures` with one network."""

    def see(**network: Any) -> NDArray[np.float32]:
        networks = looking.job(networks={"it": network}).networks
        embed = load_feature_network(networks.features["it"], CPU)
        return look(list(pictures), {"it": lambda batch, _: embed(batch)}, CPU)["it"]

    return see


def test_torchscript_and_export_see_normalised_colours(
    seen: Seen, pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network, mean, std = StandIn(16).eval(), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    colours = as_batch(*pictures) / 255
    with torch.inference_mode():
        wanted = network(
            (colours - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        )
    how = {"pixels": 32, "mean": mean, "std": std}
    scripted = script(network, tmp_path / "it.pt")
    exported = export(network, tmp_path / "it.pt2", 32)
    for kind, path in (("torchscript", scripted), ("export", exported)):
        assert seen(kind=kind, path=str(path), **how) == pytest.approx(wanted.numpy(), abs=1e-5)


def test_dinov2_is_the_class_token_of_the_whole_picture(seen: Seen, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14
    )
    model = Dinov2Model(config).eval()
    model.save_pretrained(tmp_path / "dino")
    found = seen(kind="dinov2", path=str(tmp_path / "dino"))
    values = prepare(as_batch(*render(draw_scenes(11, range(24)), 32)), DINOV2)
    with torch.inference_mode():
        wanted = model(values).last_hidden_state[:, 0]
    assert values.shape[-1] == 224
    assert found == pytest.approx(wanted.numpy(), abs=1e-4)


def test_clip_folders_give_projected_embeddings(seen: Seen, judges: Path, tmp_path: Path) -> None:
    folder = clip_folder(judges, tmp_path, mean=[0.5] * 3, std=[0.5] * 3)
    found = seen(kind="clip", path=str(folder))
    assert found == pytest.approx(seen(kind="shapes"), abs=1e-4)


def clip_folder(judges: Path, home: Path, mean: list[float], std: list[float]) -> Path:
    shutil.copytree(judges / "clip", home / "my-clip")
    settings = PROCESSOR | {"image_mean": mean, "image_std": std}
    (home / "my-clip" / "preprocessor_config.json").write_text(json.dumps(settings))
    return home / "my-clip"


def test_a_clip_folder_with_its_own_preprocessing_scores_too(
    image_sets: Any, judges: Path, looking: Looking, tmp_path: Path
) -> None:
    folder = clip_folder(judges, tmp_path, mean=[0.5] * 3, std=[0.5] * 3)
    theirs = looking.at(image_sets(), clip=str(folder))
    record = json.loads(theirs.with_suffix(".json").read_text())["arrays"]["clip"]
    found = load_file(theirs)["clip"]
    assert record["name"] == "my-clip"
    assert "mean (0.5, 0.5, 0.5)" in record["preprocessing"]
    assert found.numpy() == pytest.approx(load_file(looking.at(image_sets()))["clip"], abs=1e-3)


def test_long_captions_are_cut_and_keep_their_end(looking: Looking) -> None:
    scorer = load_clip_scorer(looking.job().networks.clip, CPU)
    long, other = "a small red circle, " * 40, "a small red circle, " * 60
    embedding, same, short = scorer.captions([long, other, "a small red circle"])
    assert torch.allclose(embedding, same, atol=1e-6)
    assert not torch.allclose(embedding, short, atol=1e-3)


def test_an_inception_file_goes_through_clean_fids_own_path(
    seen: Seen, pictures: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cleanfid.fid import get_folder_features
    from cleanfid.inception_torchscript import InceptionV3W

    file = script(StandIn(), tmp_path / "inception-2015-12-05.pt")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    ends = (digest[:12], digest[-8:])
    monkeypatch.setattr("lcm_lora.seeing.inception._SHA256", ends)
    found = seen(kind="inception", path=str(file))
    (tmp_path / "pngs").mkdir()
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / "pngs" / f"{i:08d}.png")
    wanted = get_folder_features(
        str(tmp_path / "pngs"),
        model=InceptionV3W(str(tmp_path), download=False),
        mode="clean",
        num_workers=0,
        device=CPU,
        verbose=False,
    )
    assert found == pytest.approx(wanted, abs=1e-4)


# Wrong ones


def test_other_weights_than_the_2015_inception_are_refused(seen: Seen, tmp_path: Path) -> None:
    (tmp_path / "inception-2015-12-05.pt").write_bytes(b"something else")
    with pytest.raises(UserError, match="not the 2015 Inception weights"):
        seen(kind="inception", path=str(tmp_path / "inception-2015-12-05.pt"))


class Pairs(nn.Module):
    """Gives no features."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


class Nothing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).sum(1, keepdim=True) / 0.0


def file_of(kind: str, network: nn.Module, folder: Path) -> Network:
    path = folder / f"it.{kind}"
    made = script(network, path) if kind == "torchscript" else export(network, path, 32)
    return {"kind": kind, "path": str(made), "pixels": 32}


@pytest.mark.parametrize("kind", ["torchscript", "export"])
@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Pairs(), r"gives \[24, 32, 32\] for 24 pictures, not \[B, D\]; mend it"),
        (Nothing(), r"gives features that are not finite; mend it"),
    ],
)
def test_what_is_no_feature_is_refused(
    seen: Seen, kind: str, network: nn.Module, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=rf"score\.networks\.it .*it\.{kind}: {message}") as error:
        seen(**file_of(kind, network, tmp_path))
    assert "\n" not in str(error.value)


def test_another_size_or_a_fixed_batch_is_said(seen: Seen, tmp_path: Path) -> None:
    small = file_of("torchscript", nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), tmp_path)
    with pytest.raises(UserError, match=r"it\.torchscript: fails at pictures of 32 px \(.*mend it"):
        seen(**small)
    fixed = export(StandIn(4), tmp_path / "fixed.pt2", 32, fixed=True)
    with pytest.raises(UserError, match=r"fixed\.pt2: fails at pictures of 32 px \(.*mend it"):
        seen(kind="export", path=str(fixed), pixels=32)


def test_kinds_are_not_mixed_up(seen: Seen, judges: Path, tmp_path: Path) -> None:
    scripted = file_of("torchscript", StandIn(4), tmp_path)
    exported = file_of("export", StandIn(4), tmp_path)
    for wrong in (
        scripted | {"kind": "export"},
        exported | {"kind": "torchscript"},
    ):
        with pytest.raises(UserError, match=r"it: not a file of kind|not a file of kind"):
            seen(**wrong)
    with pytest.raises(UserError, match=r"holds a 'clip', not a dinov2; name another"):
        seen(kind="dinov2", path=str(judges / "clip"))
    with pytest.raises(UserError, match=r"no such folder; mend its place in params.yaml"):
        seen(kind="dinov2", path=scripted["path"])
    with pytest.raises(UserError, match=r"no such file; mend its place in params.yaml"):
        seen(kind="torchscript", path=str(judges), pixels=32)
    with pytest.raises(UserError, match=r"not a CLIP folder with a preprocessor_config.json"):
        seen(kind="clip", path=str(judges / "clip"))


def test_a_folder_that_lacks_weights_is_refused(seen: Seen, judges: Path, tmp_path: Path) -> None:
    """Transformers would draw them at random, and say so in a warning."""
    folder = clip_folder(judges, tmp_path, [0.5] * 3, [0.5] * 3)
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"my-clip: not a network of kind clip .*lacks visual_proj"):
        seen(kind="clip", path=str(folder))


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self._path), "w")


def rewritten(path: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """Write an archive again with changed members."""
    made = path.with_suffix(".changed.pt2")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return made


@pytest.mark.filterwarnings("ignore")
def test_an_exported_file_is_never_unpickled(seen: Seen, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    content = io.BytesIO()
    torch.save((Trap(trap),), content, pickle_module=pickle)
    path = export(StandIn(4), tmp_path / "it.pt2", 32)

    def samples(name: str, old: bytes) -> bytes:
        return content.getvalue() if name.endswith("sample_inputs/model.pt") else old

    wrong = rewritten(path, samples)
    assert seen(kind="export", path=str(wrong), pixels=32).shape == (24, 4)
    assert not trap.exists()
    torch.export.load(wrong)
    assert trap.exists(), "the trap works where it is not taken out"


SPRING = "open('sprung', 'w')"
"""Writes a file in the working folder where it is run as Python."""


def rewritten_text(path: Path, *changes: tuple[str, str]) -> Path:
    """Replace text in the JSON of an archive, in JSON inside JSON too."""

    def change(name: str, content: bytes) -> bytes:
        text = content.decode() if name.endswith(".json") else ""
        for old, new in changes:
            quoted = (json.dumps(old)[1:-1], json.dumps(new)[1:-1])
            text = text.replace(old, new) if old in text else text.replace(*quoted)
        return text.encode() or content

    return rewritten(path, change)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("changes", "torch_runs_it"),
    [
        ([('"x"', f'"x={SPRING}"')], True),  # the name of what it takes, wherever it is
        ([('"forward_arg_names": ["x"]', f'"forward_arg_names": ["x={SPRING}"]')], False),
        ([('"name": "linear"', f'"name": "linear = {SPRING}"')], False),
        ([("p_layers_2_weight", f"w={SPRING}")], False),
        ([("Symbol('s", f"{SPRING} or Symbol('s")], True),
        ([('"guards_code": [', f'"guards_code": ["{SPRING}", ')], False),
        ([('"nn_module_stack": "', '"nn_module_stack": "x,x,trap.Spring;')], False),
        ([('"metadata": {', '"metadata": {"source_fn_stack": "x,trap.spring", ')], False),
        ([('"metadata": {', '"metadata": {"torch_fn": "trap.spring;trap.spring", ')], False),
        (
            [
                ('"builtins.tuple"', '"collections.defaultdict"'),
                (
                    '"context": "null"',
                    '"context": "{\\"default_factory_module\\": \\"trap\\",'
                    ' \\"default_factory_name\\": \\"x\\", \\"dict_context\\": []}"',
                ),
            ],
            False,
        ),
        (
            [
                ('"builtins.dict"', '"collections.OrderedDict"'),
                (
                    '"context": "[]"',
                    '"context": "[{\\"__enum__\\": true, \\"fqn\\": \\"trap:E\\",'
                    ' \\"name\\": \\"x\\"}]"',
                ),
            ],
            False,
        ),
    ],
)
def test_no_text_of_an_exported_file_is_run(
    seen: Seen,
    changes: list[tuple[str, str]],
    torch_runs_it: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "trap.py").write_text(SPRING)
    path = export(StandIn(4), tmp_path / "it.pt2", 32)
    wrong = rewritten_text(path, *changes)
    assert zipfile.ZipFile(wrong).read("it/models/model.json") != zipfile.ZipFile(path).read(
        "it/models/model.json"
    )
    with contextlib.suppress(UserError):
        found = seen(kind="export", path=str(wrong), pixels=32)
        assert np.array_equal(found, seen(kind="export", path=str(path), pixels=32))
    assert not (tmp_path / "sprung").exists()
    assert "trap" not in sys.modules
    with contextlib.suppress(Exception):
        torch.export.load(wrong).module()(torch.zeros(2, 3, 32, 32))
    if torch_runs_it:
        assert (tmp_path / "sprung").exists(), "the trap works where torch reads it"
    sys.modules.pop("trap", None)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("aten.linear.default", "aten.from_file.default", "no operator"),
        ("aten.linear.default", "aten.save.default", "no operator"),
        ("aten.linear.default", "aten.__class__.mro", "no operator"),
        ("aten.linear.default", "aten._foreach_add.Scalar", "no operator"),
        ("torch.ops.aten.linear.default", "torch.hub.load", "no operator of torch"),
        ("torch.ops.aten.linear.default", "_operator.attrgetter", "no operator of torch"),
        ("torch.ops.aten.linear.default", "torch.ops.higher_order.cond", "no operator of torch"),
        (
            '{"as_tensor": {"name": "p_layers_2_weight"}}, "kind"',
            '{"as_graph": {"name": "x=1", "graph": {}}}, "kind"',
            "calls an operator with as_graph",
        ),
        (
            '{"as_tensor": {"name": "p_layers_2_weight"}}, "kind"',
            '{"as_custom_obj": {"name": "x", "class_fqn": "trap.Spring"}}, "kind"',
            "calls an operator with as_custom_obj",
        ),
        ('{"parameter":', '{"custom_obj":', "takes or gives more than tensors"),
        ('{"user_output":', '{"buffer_mutation":', "changes itself"),
        ('"use_pickle": false', '"use_pickle": true', "is no plain tensor"),
        ('"path_name": "weight_0"', '"path_name": "opaque_obj_0"', "is no plain tensor"),
        ('"path_name": "weight_0"', '"path_name": "../weight_0"', "is no plain tensor"),
        ('"major": 8', '"major": 9', "is of another torch"),
    ],
)
def test_an_exported_file_calls_nothing_but_operators(
    seen: Seen, old: str, new: str, message: str, tmp_path: Path
) -> None:
    wrong = rewritten_text(export(StandIn(4), tmp_path / "it.pt2", 32), (old, new))
    with pytest.raises(UserError, match=rf"changed\.pt2: not a network of kind export .*{message}"):
        seen(kind="export", path=str(wrong), pixels=32)


def test_an_exported_file_names_arguments_as_the_operator_does(
    seen: Seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = export(StandIn(4), tmp_path / "it.pt2", 32)
    wrong = rewritten_text(path, ('"name": "bias"', f'"name": "bias={SPRING}"'))
    with pytest.raises(UserError, match=r"changed\.pt2: fails at pictures of 32 px"):
        seen(kind="export", path=str(wrong), pixels=32)
    assert not (tmp_path / "sprung").exists()


class Convolved(nn.Module):
    """Changes in place, takes sizes apart, makes tensors, and gives parts of a list back."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.shift = torch.arange(4.0)  # a constant

    def forward(self, x: Tensor) -> Tensor:
        seen = self.layers(x).mean((2, 3)) + self.shift + torch.ones(1, device=x.device)
        first, second = seen.reshape(x.shape[0], 2, 2).unbind(1)
        return torch.cat([first, nn.functional.gelu(second, approximate="tanh")], 1) * x.shape[2]


@pytest.mark.parametrize("decomposed", [False, True])
def test_an_exported_network_computes_as_it_did(tmp_path: Path, decomposed: bool) -> None:
    network, path = Convolved().eval(), tmp_path / "it.pt2"
    example, batch = torch.zeros(2, 3, 16, 16), torch.export.Dim("batch", max=8)
    program = torch.export.export(network, (example,), dynamic_shapes=({0: batch},))
    torch.export.save(program.run_decompositions() if decomposed else program, path)
    exported = load_exported(path, CPU)
    with torch.inference_mode():
        for count in (1, 8):
            pictures = torch.randn(count, 3, 16, 16)
            assert torch.allclose(exported(pictures), network(pictures), atol=1e-5)
        with pytest.raises(ValueError, match=r"was exported for sizes"):
            exported(torch.zeros(9, 3, 16, 16))


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (
            {"networks": {"it": {"kind": "torchscript", "path": "nowhere.pt", "pixels": 32}}},
            r"score\.networks\.it nowhere\.pt: no such file; mend its place in params\.yaml",
        ),
        (
            {"networks": {"it": {"kind": "dinov2", "path": "nowhere"}}},
            r"score\.networks\.it nowhere: no such folder; mend its place in params\.yaml",
        ),
        ({"clip": "nowhere"}, r"score\.clip nowhere: no such folder"),
    ],
)
def test_a_missing_network_is_named_before_torch_is_asked(
    score: Any, message: str, looking: Looking
) -> None:
    with pytest.raises(UserError, match=message):
        looking.job(**score)


@pytest.mark.parametrize(
    "file", ["judge.safetensors", "clip/model.safetensors", "clip/config.json"]
)
@pytest.mark.parametrize("content", [b"", b"[]", b"[" * 100_000, b"\xff\x00 torn"])
def test_a_damaged_network_ends_in_one_line(
    file: str, content: bytes, image_sets: Any, looking: Looking, tmp_path: Path
) -> None:
    shutil.copytree(looking.judges, tmp_path / "judges")
    looking.judges = tmp_path / "judges"
    (tmp_path / "judges" / file).write_bytes(content)
    with pytest.raises(UserError, match=rf"judges/{file.split('/')[0]}.*; (set|mend)") as error:
        looking.at(image_sets())
    assert "\n" not in str(error.value)
    assert not (looking.folder / "out").exists()


# From look to use


def test_what_changed_since_the_first_look_is_named(tmp_path: Path) -> None:
    path, plugin = tmp_path / "it.pt", tmp_path / "metric.py"
    script(StandIn(4), path)
    plugin.write_text("print(1)")
    score = Score(
        networks={
            "shapes": {"kind": "shapes"},  # type: ignore[dict-item]
            "it": {"kind": "torchscript", "path": str(path), "pixels": 32},  # type: ignore[dict-item]
        },
        plugins={"mine": {"command": ["python", str(plugin)]}},  # type: ignore[dict-item]
    )
    with Hashes(tmp_path / "hashes.sqlite") as hashes:
        seen = look_at_networks(score, hashes)
        write_record(tmp_path / "networks.json", seen)
        found = read_networks(tmp_path / "networks.json", score, hashes)
        assert found == find_networks(score, hashes)
        assert found.features["it"].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        plugin.write_text("print(2)")
        with pytest.raises(UserError, match=r"score\.plugins\.mine: changed since the first look"):
            read_networks(tmp_path / "networks.json", score, hashes)
        torch.manual_seed(1)
        script(StandIn(4), path)
        wanted = rf"score\.networks\.it {path}: changed since the first look; run `lcm-lora inv"
        with pytest.raises(UserError, match=wanted):
            read_networks(tmp_path / "networks.json", score, hashes)
        assert look_at_networks(score, hashes) != seen
