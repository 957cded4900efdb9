"""What is bound to fail hours later is refused at once, in one line; what may work is not."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from lcm_lora.base_configs import PREDICTIONS, BaseConfigs, check_base, read_configs
from lcm_lora.check import check_counts, check_disk, check_params
from lcm_lora.consistency.prediction import PredictionType
from lcm_lora.errors import UserError
from lcm_lora.evaluation import names
from lcm_lora.params.file import Params, load_params
from lcm_lora.params.reading import parse

ROOT = Path(__file__).parent.parent
PRESETS = sorted((ROOT / "lcm_lora" / "presets").glob("*.yaml"))

Change = Callable[[Any], object]


def preset(change: Change = lambda raw: None, name: str = "shapes") -> Params:
    raw = YAML(typ="safe").load(ROOT / "lcm_lora" / "presets" / f"{name}.yaml")
    raw = json.loads(json.dumps(raw))  # no aliases: a change is of one place
    change(raw)
    return parse(Params, raw, "params.yaml")


def cell(steps: int, guidance: float = 1.0, seeds: int = 0) -> dict[str, Any]:
    return {"steps": steps, "guidance": guidance, "seeds": seeds}


def source(kind: str, path: str) -> dict[str, Any]:
    return {"kind": kind, "path": path}


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_passes(path: Path) -> None:
    check_params(load_params(path))


def test_checking_imports_nothing_heavy() -> None:
    program = (
        "import sys; import lcm_lora.check, lcm_lora.base_configs\n"
        "heavy = {'torch', 'numpy', 'diffusers', 'transformers', 'PIL', 'safetensors'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


WRONG: list[tuple[Change, str]] = [
    (
        lambda p: p["generate"]["cells"]["lcm"].append(cell(51)),
        r"^generate\.cells\.lcm: 51 steps .* distill\.grid 50; lower them$",
    ),
    (
        lambda p: p["generate"]["cells"]["ddim"].append(cell(4, 3)),
        r"^generate\.cells\.ddim: steps-4_guidance-3 is there more than once; remove one$",
    ),
    (
        lambda p: p["generate"]["cells"]["unipc"].append(cell(4, 3.0000001)),
        r"^generate\.cells\.unipc: steps-4_guidance-3 is there more than once",
    ),
    (
        lambda p: p["generate"]["cells"]["lcm"].append(cell(3, seeds=1)),
        r"^generate\.cells\.lcm: steps-3_guidance-1_seeds-1 has no counterpart with seeds 0",
    ),
    (
        lambda p: p["generate"]["cells"].update(dpmpp=[cell(4, seeds=1)]),
        r"^generate\.cells\.dpmpp: .* no counterpart with seeds 0, .*; add it$",
    ),
    (
        lambda p: p["generate"]["cells"].update(teacher=[cell(50, 3, seeds=1)]),
        r"^generate\.cells\.teacher: no cell has seeds 0, the reference; add one$",
    ),
    (
        lambda p: p["registry"]["gate"].update(steps=3),
        r"^registry\.gate\.steps: .* not sampled at 3 steps; take 1, 2, 4 or 8, as in generate",
    ),
    (
        lambda p: p["registry"]["gate"].update(metric="fid:real"),
        r"^registry\.gate\.metric: the table will hold no fid:real; take fd_shapes:real, "
        r"kid_shapes:real, fd_shapes:teacher, kid_shapes:teacher, clip_score or attributes$",
    ),
    (
        lambda p: p["score"].update(features="inception.pt", attributes=False),
        r"no attributes; take fid:real, kid:real, fid:teacher, kid:teacher or clip_score$",
    ),
    (
        lambda p: p["registry"]["gate"].update(limit=40),
        r"^registry\.gate\.limit: attributes never exceeds 1, so never reaches 40; lower it$",
    ),
    (
        lambda p: p["registry"]["gate"].update(metric="clip_score", limit=101),
        "clip_score never exceeds 100",
    ),
    (
        lambda p: p["registry"]["gate"].update(metric="fd_shapes:real", limit=-1),
        r"^registry\.gate\.limit: fd_shapes:real is never below 0, .*; raise it$",
    ),
    (
        lambda p: p["report"].update(rows=321),
        r"^report\.rows: 321 pictures cannot be shown of evaluation\.prompts 320; lower it$",
    ),
    (lambda p: p["report"].update(worst=400), r"^report\.worst: 400 pictures"),
    (
        lambda p: p["prepare"].update(held_out=0),
        r"^prepare\.held_out: 0 leaves no pictures to evaluate on; raise it, or name an eval",
    ),
    (
        lambda p: p["prepare"].update(min_side=64),
        r"^prepare\.min_side: 64 rejects every scene of prepare\.source, .* 32; lower it$",
    ),
    (
        lambda p: p["prepare"].update(source=source("webdataset", "data/../data")),
        r"^prepare\.source\.path: data/\.\./data and data/inventory, .* keep pictures elsewhere$",
    ),
    (
        lambda p: p["evaluation"].update(source=source("folder", "artifacts/images/lcm")),
        r"^evaluation\.source\.path: artifacts/images/lcm and artifacts/images, which is written",
    ),
    (
        lambda p: p["evaluation"].update(source={"kind": "shapes", "count": 640, "seed": 7}),
        r"^evaluation\.source: its pictures are in prepare\.source too, .* set it to null",
    ),
    (
        lambda p: (
            p["prepare"].update(source=source("webdataset", "tars")),
            p["evaluation"].update(source=source("webdataset", "./tars/evaluation.tar")),
        ),
        r"^evaluation\.source: its pictures are in prepare\.source too",
    ),
    (
        lambda p: p["hardware"].update(device="cpu", precision="fp16"),
        r"^hardware\.precision: fp16 trains on a GPU only; take fp32 or bf16$",
    ),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_what_is_bound_to_fail_is_refused_in_one_line(change: Change, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        check_params(preset(change))
    assert len(str(error.value).splitlines()) == 1


HONEST: list[Change] = [
    lambda p: p["generate"]["cells"]["lcm"].append(cell(4, seeds=1)),
    lambda p: p["generate"]["cells"]["lcm"].append(cell(50)),
    lambda p: p["generate"]["cells"]["teacher"].append(cell(25, 3, seeds=2)),
    lambda p: p["registry"]["gate"].update(metric="kid_shapes:teacher", limit=-0.1),
    lambda p: p["distill"].update(steps=2),  # a short try, within the warm-up
    lambda p: p["evaluation"].update(source={"kind": "shapes", "count": 640, "seed": 8}),
    lambda p: (
        p["prepare"].update(held_out=0),
        p["evaluation"].update(source=source("webdataset", "/data/evaluation")),
    ),
    lambda p: (
        p["prepare"].update(source=source("webdataset", "tars")),
        p["evaluation"].update(source=source("webdataset", "tars-evaluation")),
    ),
    lambda p: (  # a folder's tars and its pictures are not the same pictures
        p["prepare"].update(source=source("webdataset", "all")),
        p["evaluation"].update(source=source("folder", "all/evaluation")),
    ),
    lambda p: p["prepare"].update(source=source("folder", "data/pictures"), min_side=64),
    lambda p: p["hardware"].update(device="auto", precision="fp16"),
]


@pytest.mark.parametrize("change", HONEST)
def test_what_may_work_is_not_refused(change: Change) -> None:
    check_params(preset(change))


@pytest.mark.parametrize("network", ["shapes", names.INCEPTION])
def test_all_metrics_but_distances_are_better_higher(network: str) -> None:
    found = names.adapter_metrics(network, attributes=True)
    higher = [name for name in found if not names.is_lower_better(name)]
    assert higher == ["clip_score", "attributes"]
    assert names.adapter_metrics(network, attributes=False) == found[:-1]


COUNTS: list[tuple[int, int | None, str]] = [
    (704, None, r"^prepare\.source: 704 pictures are fewer than the 705 that .*; add some, or low"),
    (2000, None, r"^prepare\.held_out: 0\.14 of 2000 pictures are about 280, and .* needs 640; "),
    (2000, 640, r"^prepare\.selection: 0\.01 of 2000 pictures are about 20, and .* needs 64; "),
    (64, 640, r"^prepare\.source: 64 pictures are fewer than the 65 that"),
    (8192, 639, r"^evaluation\.prompts: 320 and as many others .* 639 pictures of evaluation\.so"),
]


@pytest.mark.parametrize(("pictures", "own", "message"), COUNTS)
def test_too_few_pictures_are_refused_in_one_line(
    pictures: int, own: int | None, message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        check_counts(preset(), pictures, own)
    assert len(str(error.value).splitlines()) == 1


def test_pictures_that_suffice_are_not_refused() -> None:
    check_counts(preset(), 8192, None)
    check_counts(preset(), 8192, 640)
    # 0.14 of 4500 are 630 of the 640 needed: chance may well make up for ten.
    check_counts(preset(lambda p: p["evaluation"].update(selection=40)), 4500, None)


@given(st.integers(1, 10**7), st.integers(1, 10**7), st.none() | st.integers(640, 10**6))
def test_more_pictures_never_hurt(pictures: int, more: int, own: int | None) -> None:
    params = preset()
    try:
        check_counts(params, pictures, own)
    except UserError:
        return
    check_counts(params, pictures + more, own)


def test_a_full_disk_is_refused_in_one_line() -> None:
    check_disk(10**9, 10**9, Path("data"))
    with pytest.raises(UserError, match=r"^data: a run needs about 2\.5 GB there, and 1\.0 GB are"):
        check_disk(2_500_000_000, 10**9, Path("data"))


def test_what_can_be_distilled_is_what_can_be_converted() -> None:
    assert get_args(PredictionType) == PREDICTIONS


def test_the_shapes_base_fits_its_preset() -> None:
    configs = read_configs(ROOT / "lcm_lora" / "shapes" / "weights" / "base")
    assert configs == BaseConfigs(1000, "epsilon", 4, 8, 8)
    check_base(preset(), configs)


SD = BaseConfigs(1000, "epsilon", 8, 4, 4)

MISFITS: list[tuple[Change, dict[str, Any], str]] = [
    (
        lambda p: p["distill"].update(grid=60),
        {},
        r"^distill\.grid: 60 does not divide the base's 1000 training steps; take 50 or another",
    ),
    (
        lambda p: p["prepare"].update(resolution=40),
        {"downsampling": 16},
        r"^prepare\.resolution: 40 is no multiple of 16, the pixels of one latent of shapes; make",
    ),
    (
        lambda p: p["generate"]["cells"]["teacher"].append(cell(1001)),
        {},
        r"^generate\.cells\.teacher: 1001 steps are more than the base's 1000 training steps; low",
    ),
    (
        lambda p: None,
        {"prediction_type": "flow_prediction"},
        r"^base\.model: shapes predicts flow_prediction; only epsilon, sample, v_prediction can",
    ),
    (
        lambda p: None,
        {"unet_channels": 9},
        r"^base\.model: the denoiser of shapes takes 9 channels, its latents have 4; take a base",
    ),
]


@pytest.mark.parametrize(("change", "values", "message"), MISFITS)
def test_a_base_that_does_not_fit_is_refused_in_one_line(
    change: Change, values: dict[str, Any], message: str
) -> None:
    check_base(preset(), SD)
    with pytest.raises(UserError, match=message) as error:
        check_base(preset(change), BaseConfigs(**{**_fields(SD), **values}))
    assert len(str(error.value).splitlines()) == 1


def _fields(configs: BaseConfigs) -> dict[str, Any]:
    return {name: getattr(configs, name) for name in BaseConfigs.__slots__}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A base as published ones are: what is as usual is left out."""
    contents: dict[str, dict[str, Any]] = {
        "model_index.json": {"_class_name": "StableDiffusionXLPipeline", "unet": ["a", "b"]},
        "scheduler/scheduler_config.json": {"_class_name": "PNDMScheduler"},
        "vae/config.json": {"block_out_channels": [128, 256, 512, 512]},
        "unet/config.json": {"sample_size": 128},
    }
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    return tmp_path


def test_what_a_configuration_leaves_out_is_as_usual(folder: Path) -> None:
    assert read_configs(folder) == SD


def test_a_single_file_has_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "base.safetensors").touch()
    assert read_configs(tmp_path / "base.safetensors") is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model_index.json", '{"_class_name": "FluxPipeline"}', "is a FluxPipeline; name a Stable"),
        ("model_index.json", '{"_class_name": ["x", "Y"]}', "model_index.json: damaged .*string"),
        ("model_index.json", None, "model_index.json: no such file; let base.model name"),
        ("vae/config.json", "{}", "vae/config.json: damaged .*block_out_channels: Field required"),
        ("vae/config.json", '{"block_out_channels": []}', "vae/config.json: damaged"),
        ("unet/config.json", "[" * 100_000, "unet/config.json: damaged"),
        ("unet/config.json", "\xff", "unet/config.json: damaged"),
        (
            "scheduler/scheduler_config.json",
            '{"num_train_timesteps": 0}',
            "scheduler_config.json: damaged .*num_train_timesteps: .*greater than or equal to 1",
        ),
        ("scheduler/scheduler_config.json", None, "scheduler_config.json: no such file; let base"),
    ],
)
def test_a_damaged_base_is_one_line_that_names_the_file(
    folder: Path, name: str, content: str | None, message: str
) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=message) as error:
        read_configs(folder)
    assert len(str(error.value).splitlines()) == 1
