"""What a base's configuration files say, and parameters that it cannot serve.

Reading them takes no weights and no network: a base that does not fit is refused in an instant.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ConfigDict, Field

from lcm_lora.errors import UserError
from lcm_lora.params.file import Params
from lcm_lora.records import Record, read_record

PIPELINES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")

PREDICTIONS = ("epsilon", "sample", "v_prediction")

_MEND = "let base.model name a whole Stable Diffusion in the diffusers layout"


@dataclass(frozen=True, slots=True)
class BaseConfigs:
    """What a base's configuration files say that parameters must fit."""

    training_steps: int
    prediction_type: str
    downsampling: int
    """Pixels of a picture's side for each of its latent's."""
    latent_channels: int
    unet_channels: int


class _Config(Record):
    """A configuration file of diffusers, as far as it is read here; absent is its default."""

    model_config = ConfigDict(extra="ignore")


class _Pipeline(_Config):
    """What a pipeline is."""

    name: str = Field(alias="_class_name")


class _Scheduler(_Config):
    """A scheduler's configuration."""

    num_train_timesteps: int = Field(1000, ge=1, le=1_000_000)
    prediction_type: str = "epsilon"


class _Autoencoder(_Config):
    """An autoencoder's configuration."""

    block_out_channels: tuple[int, ...] = Field(min_length=1, max_length=16)
    latent_channels: int = 4


class _Denoiser(_Config):
    """A denoiser's configuration."""

    in_channels: int = 4


def read_configs(folder: Path) -> BaseConfigs | None:
    """Read the configuration of a base in a diffusers folder; a single file has none.

    Raises:
        UserError: It is no Stable Diffusion, or a file of it is missing or damaged.
    """
    if folder.is_file():
        return None
    pipeline = read_record(folder / "model_index.json", _Pipeline, _MEND)
    if pipeline.name not in PIPELINES:
        raise UserError(
            f"base.model: {folder} is a {pipeline.name[:60]}; name a {' or a '.join(PIPELINES)}"
        )
    scheduler = read_record(folder / "scheduler" / "scheduler_config.json", _Scheduler, _MEND)
    autoencoder = read_record(folder / "vae" / "config.json", _Autoencoder, _MEND)
    return BaseConfigs(
        training_steps=scheduler.num_train_timesteps,
        prediction_type=scheduler.prediction_type,
        downsampling=2 ** (len(autoencoder.block_out_channels) - 1),
        latent_channels=autoencoder.latent_channels,
        unet_channels=read_record(folder / "unet" / "config.json", _Denoiser, _MEND).in_channels,
    )


def check_base(params: Params, configs: BaseConfigs) -> None:
    """Check parameters against the base.

    Raises:
        UserError: It cannot be distilled, or not with these.
    """
    if configs.prediction_type not in PREDICTIONS:
        raise UserError(
            f"base.model: {params.base.model} predicts {configs.prediction_type[:60]}; only "
            f"{', '.join(PREDICTIONS)} can be distilled, take another base"
        )
    if configs.unet_channels != configs.latent_channels:
        raise UserError(
            f"base.model: the denoiser of {params.base.model} takes {configs.unet_channels} "
            f"channels, its latents have {configs.latent_channels}; take a base that paints from "
            "text alone"
        )
    if params.prepare.resolution % configs.downsampling:
        raise UserError(
            f"prepare.resolution: {params.prepare.resolution} is no multiple of "
            f"{configs.downsampling}, the pixels of one latent of {params.base.model}; make it one"
        )
    _check_steps(params, configs.training_steps)


def _check_steps(params: Params, training_steps: int) -> None:
    grid = params.distill.grid
    if training_steps % grid:
        near = max(n for n in range(1, grid) if training_steps % n == 0)
        raise UserError(
            f"distill.grid: {grid} does not divide the base's {training_steps} training steps; "
            f"take {near} or another divisor"
        )
    for sampler, cells in params.generate.cells.items():
        most = max(cell.steps for cell in cells)
        if most > training_steps:
            raise UserError(
                f"generate.cells.{sampler}: {most} steps are more than the base's "
                f"{training_steps} training steps; lower them"
            )
