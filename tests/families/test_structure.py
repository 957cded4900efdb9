"""What a base is told to be, and parameters that do not suit it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from presets import Change, cell, preset

from lcm_lora.consistency.prediction import PredictionType
from lcm_lora.errors import UserError
from lcm_lora.families.check import PREDICTIONS, check_base
from lcm_lora.families.structure import Structure, structure_of_folder
from lcm_lora.shapes import places


def test_what_can_be_distilled_is_what_can_be_converted() -> None:
    assert get_args(PredictionType) == PREDICTIONS


def test_the_shapes_base_fits_its_preset() -> None:
    found = structure_of_folder(places.BASE)
    assert found == SD.model_copy(
        update={"downsampling": 4, "latent_channels": 8, "unet_channels": 8}
    )
    check_base(preset(), found)


SD = Structure(
    family="sd1",
    prediction_type="epsilon",
    zero_snr=False,
    training_steps=1000,
    downsampling=8,
    latent_channels=4,
    unet_channels=4,
)

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
        lambda p: p["generate"]["painters"]["teacher"]["cells"].append(cell(1001)),
        {},
        r"^generate painter teacher: 1001 steps are more than the base's 1000 training steps; low",
    ),
    (
        lambda p: p["transfer"]["painters"]["ddim"]["cells"].append(cell(2000)),
        {},
        r"^transfer\.painters\.ddim: 2000 steps are more than the base's 1000 training steps; low",
    ),
    (
        lambda p: p["transfer"]["adapter"].update(sampler="ddim", cells=[cell(4), cell(1001)]),
        {},
        r"^transfer\.adapter: 1001 steps are more than the base's 1000 training steps; lower them$",
    ),
    (
        lambda p: p["transfer"]["map"].update(cell=cell(1001)),
        {},
        r"^transfer\.map: 1001 steps are more than the base's 1000 training steps; lower them$",
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
    (
        lambda p: None,
        {"zero_snr": True},
        r"^base\.model: the schedule of shapes ends in pure noise, where a prediction of the noise",
    ),
]


@pytest.mark.parametrize(("change", "values", "message"), MISFITS)
def test_a_base_that_does_not_fit_is_refused_in_one_line(
    change: Change, values: dict[str, Any], message: str
) -> None:
    check_base(preset(), SD)
    with pytest.raises(UserError, match=message) as error:
        check_base(preset(change), SD.model_copy(update=values))
    assert len(str(error.value).splitlines()) == 1


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
    assert structure_of_folder(folder) == SD.model_copy(update={"family": "sdxl"})


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
        structure_of_folder(folder)
    assert len(str(error.value).splitlines()) == 1
