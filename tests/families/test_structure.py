"""What a base is told to be, and parameters that do not suit it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import diffusers
import pytest
from presets import Change, cell, preset
from tiny_bases import autoencoder, tiny_pipeline

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
        "scheduler/scheduler_config.json": {
            "_class_name": "PNDMScheduler",
            "beta_schedule": "scaled_linear",
            "beta_start": 0.00085,
            "beta_end": 0.012,
        },
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
            '{"_class_name": "PNDMScheduler", "num_train_timesteps": 0}',
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


SCHEDULERS = [
    "PNDM",
    "DDIM",
    "DDPM",
    "LMSDiscrete",
    "EulerDiscrete",
    "EulerAncestralDiscrete",
    "DPMSolverMultistep",
    "DPMSolverSinglestep",
    "HeunDiscrete",
    "KDPM2Discrete",
    "KDPM2AncestralDiscrete",
    "UniPCMultistep",
    "LCM",
    "TCD",
    "DEISMultistep",
]


def of(scheduler: str) -> Any:
    return getattr(diffusers, f"{scheduler}Scheduler")


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_whatever_scheduler_of_ddpm_a_base_comes_with_it_is_the_same(
    scheduler: str, folder: Path
) -> None:
    own = tiny_pipeline("sd1", "v_prediction").scheduler
    of(scheduler).from_config(own.config).save_pretrained(folder / "scheduler")
    found = structure_of_folder(folder)
    assert found == SD.model_copy(update={"family": "sdxl", "prediction_type": "v_prediction"})


@pytest.mark.parametrize("left_out", ["beta_schedule", "beta_start", "beta_end"])
def test_a_base_that_leaves_its_noise_to_a_schedulers_defaults_is_refused(
    left_out: str, folder: Path
) -> None:
    file = folder / "scheduler" / "scheduler_config.json"
    config = json.loads(file.read_text())
    del config[left_out]
    file.write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"\(PNDMScheduler\) is not DDPM's by its betas"):
        structure_of_folder(folder)


@pytest.mark.parametrize(
    ("scheduler", "settings"),
    [
        ("EDMDPMSolverMultistep", {}),
        ("EDMEuler", {}),
        ("FlowMatchEulerDiscrete", {}),
        ("EulerDiscrete", {"timestep_type": "continuous", "prediction_type": "v_prediction"}),
        ("UniPCMultistep", {"use_flow_sigmas": True}),
        ("DDPM", {"beta_schedule": "sigmoid"}),
    ],
)
def test_a_base_of_other_noise_is_refused(
    scheduler: str, settings: dict[str, Any], folder: Path
) -> None:
    of(scheduler)(**settings).save_pretrained(folder / "scheduler")
    message = rf"^base\.model: the noise of \S+ \({scheduler}Scheduler\) is not DDPM's .*no EDM"
    with pytest.raises(UserError, match=message) as error:
        structure_of_folder(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "settings",
    [{"latents_mean": [0.0] * 4}, {"latents_std": [8.0] * 4}, {"shift_factor": 0.1}],
)
def test_an_autoencoder_that_shifts_its_latents_is_refused(
    settings: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    other = autoencoder()
    other.save_config(tmp_path / "other")
    assert structure_of_folder(folder, tmp_path / "other").downsampling == 2
    other.register_to_config(**settings)
    other.save_config(tmp_path / "other")
    with pytest.raises(UserError, match=r"^base\.vae: .*other shifts its latents .*; name one"):
        structure_of_folder(folder, tmp_path / "other")
    other.save_config(folder / "vae")
    with pytest.raises(UserError, match=r"^base\.model: the autoencoder of .* shifts its latents"):
        structure_of_folder(folder)
