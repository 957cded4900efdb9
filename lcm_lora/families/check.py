"""Refuse parameters that a base cannot serve."""

from __future__ import annotations

from collections.abc import Iterator

from lcm_lora.errors import UserError
from lcm_lora.families.structure import Structure
from lcm_lora.params.file import Params
from lcm_lora.params.generate import Cell

PREDICTIONS = ("epsilon", "sample", "v_prediction")


def check_base(params: Params, structure: Structure) -> None:
    """Check parameters against the base.

    Raises:
        UserError: It cannot be distilled, or not with these.
    """
    if structure.prediction_type not in PREDICTIONS:
        raise UserError(
            f"base.model: {params.base.model} predicts {structure.prediction_type[:60]}; only "
            f"{', '.join(PREDICTIONS)} can be distilled, take another base"
        )
    if structure.zero_snr and structure.prediction_type == "epsilon":
        raise UserError(
            f"base.model: the schedule of {params.base.model} ends in pure noise, where a "
            "prediction of the noise says nothing; set base.prediction_type to v_prediction"
        )
    if structure.unet_channels != structure.latent_channels:
        raise UserError(
            f"base.model: the denoiser of {params.base.model} takes {structure.unet_channels} "
            f"channels, its latents have {structure.latent_channels}; take a base that paints from "
            "text alone, not one for inpainting or editing"
        )
    if params.prepare.resolution % structure.downsampling:
        raise UserError(
            f"prepare.resolution: {params.prepare.resolution} is no multiple of "
            f"{structure.downsampling}, the pixels of one latent of {params.base.model}; make it "
            "one"
        )
    _check_steps(params, structure.training_steps)


def _check_steps(params: Params, training_steps: int) -> None:
    grid = params.distill.grid
    if training_steps % grid:
        near = max(n for n in range(1, grid) if training_steps % n == 0)
        raise UserError(
            f"distill.grid: {grid} does not divide the base's {training_steps} training steps; "
            f"take {near} or another divisor"
        )
    for where, cells in _painted(params):
        most = max(cell.steps for cell in cells)
        if most > training_steps:
            raise UserError(
                f"{where}: {most} steps are more than the base's {training_steps} training steps; "
                "lower them"
            )


def _painted(params: Params) -> Iterator[tuple[str, tuple[Cell, ...]]]:
    """Yield all cells that are painted on the base or a fine-tune of it, by who paints."""
    for name in params.generate.names:
        yield f"generate painter {name}", params.generate.painter(name).cells
    transfer = params.transfer
    if not transfer.subjects:
        return
    for name, painter in transfer.painters.items():
        yield f"transfer.painters.{name}", painter.cells
    yield "transfer.adapter", transfer.adapter.cells
    if transfer.map:
        yield "transfer.map", (transfer.map.cell,)
