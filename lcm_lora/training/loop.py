"""The distillation run, from cached latents to a written adapter.

Killing it anywhere and running the same command again gives, on the CPU, the same bytes: order and
randomness are functions of the step, and everything else is in the checkpoint.
"""

from __future__ import annotations

import contextlib
import math
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from lcm_lora.adapter import adapter_off, attach
from lcm_lora.bases import Base
from lcm_lora.code import code_sha256, versions
from lcm_lora.consistency.denoiser import Conditioning, Denoiser
from lcm_lora.consistency.objective import distance
from lcm_lora.consistency.schedule import schedule_of, solver_grid
from lcm_lora.consistency.solver import lcm_range
from lcm_lora.consistency.step import distillation_step
from lcm_lora.data.batches import LatentCache, order
from lcm_lora.errors import UserError
from lcm_lora.files import write_bytes
from lcm_lora.params.distill import Distill
from lcm_lora.params.hardware import Hardware
from lcm_lora.progress import progress
from lcm_lora.training.curve import CURVE, CurveRow, curve_lines
from lcm_lora.training.draws import draw
from lcm_lora.training.origin import Origin
from lcm_lora.training.state import (
    State,
    identity,
    keep_candidate,
    keep_only,
    restore,
    save_checkpoint,
)
from lcm_lora.training.store import Store, open_store

_STEPS_BETWEEN_READS = 10
"""Losses stay on the device this long: reading one waits for all the work queued before it."""


class Run:
    """A distillation in progress: the networks, the data, the optimiser and how far they are."""

    def __init__(
        self,
        params: Distill,
        hardware: Hardware,
        base: Base,
        latents: LatentCache,
        origin: Origin,
    ) -> None:
        self.params, self.latents, self.base, self.device = params, latents, base, base.device
        self.origin, self.empty = origin, base.unconditional()
        config = base.pipeline.scheduler.config
        self.prediction = config.prediction_type
        self.schedule = schedule_of(config).to(base.device)
        self.grid = solver_grid(config.num_train_timesteps, params.grid).to(base.device)
        self.accelerator = Accelerator(
            cpu=base.device.type == "cpu",
            mixed_precision="fp16" if hardware.precision == "fp16" else "no",
        )
        self.micro = _micro_batch(params, self.accelerator.num_processes)

        attach(base.unet, params.rank, params.alpha, params.seed)
        base.unet.to(memory_format=torch.channels_last)
        if params.gradient_checkpointing:
            base.unet.train()  # diffusers checkpoints in training mode only; there is no dropout
            base.unet.enable_gradient_checkpointing()
        named = {name: p for name, p in base.unet.named_parameters() if p.requires_grad}
        optimiser = torch.optim.AdamW(named.values(), weight_decay=params.weight_decay)
        trained = self.accelerator.prepare_model(base.unet)
        self.optimiser = self.accelerator.prepare_optimizer(optimiser)
        self.trained = trained
        self.student = _student(base, trained)
        self.teacher = _teacher(base)
        self.state = State(named, optimiser, self.accelerator.scaler, origin)

    def step(self) -> tuple[Tensor, Tensor]:
        """Make one optimiser step; return loss and gradient norm before clipping, on the device."""
        params, state = self.params, self.state
        warm = warm_up(state.step + 1, params)
        for group in state.optimiser.param_groups:
            group["lr"] = params.learning_rate * warm
        total = torch.zeros((), device=self.device)
        for part in range(params.accumulation):
            last = part == params.accumulation - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.trained):
                loss = self._loss(part) / params.accumulation
                self.accelerator.backward(loss)
            total += loss.detach()
        norm = self.accelerator.clip_grad_norm_(list(state.parameters.values()), params.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad()
        state.step += 1
        state.origin = self.origin
        return self.accelerator.reduce(total, "mean"), norm

    def _loss(self, part: int) -> Tensor:
        """Return the loss of this process's share of micro-batch `part`."""
        params, ranks = self.params, self.accelerator.num_processes
        about = self.latents.index.about
        first = self.state.step * params.batch
        first += (part * ranks + self.accelerator.process_index) * self.micro
        batch = self.latents.rows(order(len(self.latents), params.seed, first, self.micro))
        draws = draw(
            params.seed,
            range(first, first + self.micro),
            about.shape,
            params.grid,
            lcm_range(params.guidance),
        )
        x0 = about.scaling_factor * (batch.mean + batch.std * draws.posterior)
        predictions = distillation_step(
            self.student,
            self.teacher,
            self.schedule,
            self.grid,
            self.prediction,
            x0.to(self.device),
            self.base.conditioning(batch.captions, batch.time_ids),
            {name: v.expand(self.micro, *v.shape[1:]) for name, v in self.empty.items()},
            draws.step.to(self.device),
        )
        return distance(predictions.online, predictions.target, params.loss, params.huber_c)


def train(
    params: Distill,
    hardware: Hardware,
    base: Base,
    latents: LatentCache,
    cache_sha256: str,
    checkpoints: Path,
    origin: Origin,
) -> tuple[State, Store]:
    """Train a fresh adapter on `base`, or go on where a killed run of the same identity stopped.

    Args:
        params: Of the distillation.
        hardware: The base is already on its device; here it names the precision.
        base: The frozen teacher; gets the adapter attached and trained.
        latents: What `encode` wrote.
        cache_sha256: Of the cache's index, which holds the hashes of all its files.
        checkpoints: Where the run keeps its state, and `curve.jsonl`, which grows as it goes.
        origin: What makes the steps from here on.

    Returns:
        The state at the end, and where the candidates along the way are.

    Raises:
        UserError: A wrong parameter, a cache of another base, or a loss that is not finite.
    """
    if latents.index.autoencoder != base.found.part_sha256("vae"):
        raise UserError(
            f"the cache holds latents of another autoencoder than that of {base.name}; run "
            "`lcm-lora encode`"
        )
    run = Run(params, hardware, base, latents, origin)
    state, is_main = run.state, run.accelerator.is_main_process
    name = _identity(params, hardware, base, cache_sha256, run.accelerator)
    store, folder = open_store(None, checkpoints), open_store(None, checkpoints).at(name)
    live = checkpoints / CURVE
    if restore(state, folder, params.steps):
        run.accelerator.print(f"distill: resumed from step {state.step} of {params.steps}")
    if is_main:
        keep_only(store, name)
        write_bytes(live, curve_lines(state.curve))

    pending: list[tuple[Tensor, Tensor]] = []
    with progress("distill", params.steps, "steps", state.step) as advance:
        while state.step < params.steps:
            pending.append(run.step())
            is_candidate = params.candidates.at(state.step)
            at_checkpoint = (
                is_candidate
                or state.step % params.checkpoint_every == 0
                or state.step == params.steps
            )
            note = ""
            if at_checkpoint or state.step % _STEPS_BETWEEN_READS == 0:
                rows = _read(pending, state, params)
                note = f"loss {rows[-1].loss:.5f}"
                if is_main:
                    with live.open("ab") as file:
                        file.write(curve_lines(rows))
            if is_candidate and is_main:
                keep_candidate(state, folder)
            if at_checkpoint and is_main:
                save_checkpoint(state, folder)
            if is_main:
                advance(1, note)
    return state, folder


def _identity(
    params: Distill, hardware: Hardware, base: Base, cache_sha256: str, accelerator: Accelerator
) -> str:
    """Return the name of a run: all that decides what a step computes, and nothing else."""
    return identity(
        {
            # None of these changes what a step computes: a longer run goes on from a shorter one.
            "params": params.model_dump(exclude={"steps", "checkpoint_every", "export"}),
            "hardware": hardware.model_dump(),
            "base": base.found.sha256,
            "cache": cache_sha256,
            "code": code_sha256(__name__),
            "versions": versions(),
            "processes": accelerator.num_processes,
        }
    )


def _read(pending: list[tuple[Tensor, Tensor]], state: State, params: Distill) -> list[CurveRow]:
    """Move the pending losses into the curve, and return them as its rows."""
    rows = []
    for loss, norm in pending:
        step = len(state.curve) + 1
        if not math.isfinite(float(loss)):
            raise UserError(
                f"distill: the loss of step {step} is {float(loss)}; lower distill.learning_rate, "
                "or look for broken pictures (the last checkpoint before is kept)"
            )
        row = CurveRow(
            step=step,
            loss=float(loss),
            grad_norm=float(norm) if math.isfinite(float(norm)) else None,
            learning_rate=params.learning_rate * warm_up(step, params),
        )
        state.curve.append(row)
        rows.append(row)
    pending.clear()
    return rows


def warm_up(step: int, params: Distill) -> float:
    """Return the share of the learning rate that step 1, 2, ... is made with."""
    return min(1.0, step / params.warm_up) if params.warm_up else 1.0


def _micro_batch(params: Distill, processes: int) -> int:
    """Return the samples of one forward pass of one process."""
    micro, rest = divmod(params.batch, params.accumulation * processes)
    if rest:
        raise UserError(
            f"distill.batch: {params.batch} is no multiple of {processes} processes times "
            f"{params.accumulation} micro-batches; make it one"
        )
    return micro


def _student(base: Base, trained: nn.Module) -> Denoiser:
    """Return the adapted denoiser; its fp32 adapter computes in the base's precision too."""
    denoise, dtype = base.denoiser(trained), base.dtype

    def denoise_adapted(z: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        with torch.autocast(z.device.type, dtype, enabled=dtype != torch.float32):
            return denoise(z, timesteps, conditioning)

    return denoise_adapted


def _teacher(base: Base) -> Denoiser:
    """Return the denoiser with its adapter off."""
    plain = _student(base, base.unet)

    def denoise(z: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        with adapter_off(base.unet):
            return plain(z, timesteps, conditioning)

    return denoise
