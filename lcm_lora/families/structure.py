"""What a base is, told from its configuration files or from the tensors of a single file.

Nothing here reads a weight or imports a network: a base that does not suit is refused in an
instant.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from lcm_lora.errors import UserError
from lcm_lora.families.family import FAMILIES, Family, FamilyName
from lcm_lora.families.header import Header
from lcm_lora.records import Record, read_record

_MEND = "let base.model name a whole Stable Diffusion in the diffusers layout"
_PIPELINES = {family.pipeline: family.is_xl for family in FAMILIES.values()}
_UNET = "model.diffusion_model."
_FIRST = f"{_UNET}input_blocks.0.0.weight"
_EDM = {"edm_mean", "edm_std", "edm_vpred.sigma_max"}
"""Tensors by which single files mark another noise than DDPM's; ComfyUI reads them."""
_SCHEDULERS = {
    "DDIMParallelScheduler",
    "DDIMScheduler",
    "DDPMParallelScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
}
"""Those of diffusers that can stand for DDPM's noise, which all that is here computes with."""
_BETAS = {"linear", "scaled_linear", "squaredcos_cap_v2"}
"""The noise schedules that they all know."""


class Structure(Record):
    """What of a base decides how it is distilled, and which parameters suit it."""

    family: FamilyName
    prediction_type: str
    zero_snr: bool
    """Whether the schedule is rescaled so that the last step is pure noise."""
    training_steps: int
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

    name: str = Field(alias="_class_name")
    beta_schedule: str | None = None
    beta_start: float | None = None
    beta_end: float | None = None
    trained_betas: tuple[float, ...] | None = None
    use_flow_sigmas: bool = False
    timestep_type: str = "discrete"
    num_train_timesteps: int = Field(1000, ge=1, le=1_000_000)
    prediction_type: str = "epsilon"
    rescale_betas_zero_snr: bool = False

    @property
    def is_of_ddpm(self) -> bool:
        """Whether z_t = alpha_t x0 + sigma_t eps at whole steps t, by the betas that it names."""
        # What is left out each scheduler takes to be another number.
        is_whole = self.beta_start is not None and self.beta_end is not None
        has_betas = bool(self.trained_betas) or (self.beta_schedule in _BETAS and is_whole)
        is_other = self.use_flow_sigmas or self.timestep_type != "discrete"
        return self.name in _SCHEDULERS and has_betas and not is_other


class _Autoencoder(_Config):
    """An autoencoder's configuration."""

    block_out_channels: tuple[int, ...] = Field(min_length=1, max_length=16)
    latent_channels: int = 4
    latents_mean: Any = None
    latents_std: Any = None
    shift_factor: float | None = None

    @property
    def is_scaled_alone(self) -> bool:
        """Whether its latents are multiplied by one number, and nothing else is done to them."""
        return self.latents_mean is None and self.latents_std is None and not self.shift_factor


class _Denoiser(_Config):
    """A denoiser's configuration."""

    in_channels: int = 4
    use_linear_projection: bool = False
    mid_block_type: str | None = "UNetMidBlock2DCrossAttn"


def structure_of_folder(folder: Path, vae: Path | None = None) -> Structure:
    """Return what the base in a diffusers folder is.

    Args:
        folder: With a configuration file of each part.
        vae: Folder of another autoencoder in place of the base's own.

    Raises:
        UserError: It is no Stable Diffusion, its noise or its latents are of another kind, or a
            file of it is missing or damaged.
    """
    pipeline = read_record(folder / "model_index.json", _Pipeline, _MEND)
    if pipeline.name not in _PIPELINES:
        raise UserError(
            f"base.model: {folder} is a {pipeline.name[:60]}; name a {' or a '.join(_PIPELINES)}"
        )
    scheduler = read_record(folder / "scheduler" / "scheduler_config.json", _Scheduler, _MEND)
    if not scheduler.is_of_ddpm:
        raise UserError(
            f"base.model: the noise of {folder} ({scheduler.name[:60]}) is not DDPM's by its "
            "betas; name a base that is no EDM and no flow model"
        )
    mend = "let base.vae name an autoencoder in the diffusers layout" if vae else _MEND
    autoencoder = read_record((vae or folder / "vae") / "config.json", _Autoencoder, mend)
    if not autoencoder.is_scaled_alone:
        raise UserError(
            f"base.{'vae' if vae else 'model'}: the autoencoder of {vae or folder} shifts its "
            "latents (latents_mean, latents_std or shift_factor); name one that only scales them"
        )
    denoiser = read_record(folder / "unet" / "config.json", _Denoiser, _MEND)
    return Structure(
        family=_family(_PIPELINES[pipeline.name], denoiser),
        prediction_type=scheduler.prediction_type,
        zero_snr=scheduler.rescale_betas_zero_snr,
        training_steps=scheduler.num_train_timesteps,
        downsampling=2 ** (len(autoencoder.block_out_channels) - 1),
        latent_channels=autoencoder.latent_channels,
        unet_channels=denoiser.in_channels,
    )


def _family(is_xl: bool, denoiser: _Denoiser) -> FamilyName:
    """Tell kin apart by what others must know of them: the shapes that an adapter takes."""
    if is_xl:
        return "ssd1b" if denoiser.mid_block_type == "UNetMidBlock2D" else "sdxl"
    return "sd2" if denoiser.use_linear_projection else "sd1"


def family_of_file(path: Path, header: Header) -> Family:
    """Tell the family of a single file from its tensors.

    Raises:
        UserError: It holds no whole Stable Diffusion that paints from text, or one of other noise.
    """
    where = f"base.model {path}"
    if _FIRST not in header.shapes:
        raise UserError(
            f"{where}: holds no denoiser of SD-1.x, SD-2.x, SDXL or SSD-1B as single files do; "
            "name a whole checkpoint, or a diffusers folder"
        )
    if not _EDM.isdisjoint(header.shapes):
        raise UserError(f"{where}: is an EDM model, whose noise is not DDPM's; name another base")
    if header.has("conditioner.embedders.1.model."):
        if not header.has("conditioner.embedders.0.transformer."):
            raise UserError(f"{where}: lacks the first of its two text encoders; name a whole file")
        has_attention = header.has(f"{_UNET}middle_block.1.transformer_blocks.")
        return FAMILIES["sdxl" if has_attention else "ssd1b"]
    if header.has("conditioner.embedders.0.model."):
        raise UserError(f"{where}: is the refiner of SDXL, which paints over pictures; name a base")
    if header.has("cond_stage_model.model.transformer."):
        return FAMILIES["sd2"]
    if header.has("cond_stage_model.transformer."):
        return FAMILIES["sd1"]
    raise UserError(f"{where}: holds no text encoder; name a whole checkpoint")


def structure_of_file(
    path: Path, header: Header, configs: Path, vae: Path | None, prediction_type: str | None
) -> Structure:
    """Return what the base in a single file is.

    Args:
        path: The file, for messages.
        header: Of the file.
        configs: A diffusers folder of configuration files for it.
        vae: Folder or file of another autoencoder.
        prediction_type: As the parameters name it, if they do.

    Raises:
        UserError: The file holds no autoencoder and none is named, or what it predicts cannot be
            told.
    """
    if vae is None and not header.has("first_stage_model."):
        raise UserError(
            f"base.model {path}: holds no autoencoder; name one as base.vae, a folder or a file"
        )
    family = family_of_file(path, header)
    found = structure_of_folder(configs, vae if vae and vae.is_dir() else None)
    return found.model_copy(
        update={
            "family": family.name,
            "prediction_type": prediction_type or _predicts(path, header, configs, family),
            "zero_snr": found.zero_snr or "ztsnr" in header.shapes,
            "unet_channels": header.shapes[_FIRST][1],
        }
    )


def _predicts(path: Path, header: Header, configs: Path, family: Family) -> str:
    """Return what a single file's denoiser predicts, as far as it or its configuration says so.

    Fine-tunes of SDXL mark v-prediction by an empty tensor `v_pred`, and a rescaled schedule by
    `ztsnr`; ComfyUI reads both.
    """
    if "v_pred" in header.shapes:
        return "v_prediction"
    if told := header.metadata.get("modelspec.prediction_type"):
        return {"v": "v_prediction"}.get(told, told)
    config = json.loads((configs / "scheduler" / "scheduler_config.json").read_text())
    if told := _told(config):
        return told
    raise UserError(
        f"base.model {path}: {family.title} comes with epsilon (2.x-base, 512 pixels) and with "
        "v_prediction (768 pixels), and its tensors do not tell; set base.prediction_type"
    )


def _told(config: Mapping[str, Any]) -> str | None:
    told = config.get("prediction_type")
    return str(told) if told is not None else None
