"""The distillation run, from cached latents to a trained adapter.

Killing it anywhere and running the same command again gives, on the CPU, the same bytes: order and
randomness are functions of the step, and everything else is in the checkpoint. How many processes
share the work changes rounding only.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from lcm_lora.adapter import adapter_off, attach, compute_as_given
from lcm_lora.bases import Base
from lcm_lora.code import code_sha256, versions
from lcm_lora.consistency.denoiser import Conditioning, Denoiser
from lcm_lora.consistency.objective import distance
from lcm_lora.consistency.schedule import schedule_of, solver_grid
from lcm_lora.consistency.solver import lcm_range
from lcm_lora.consistency.step import Draws, distillation_step
from lcm_lora.data.batches import LatentCache, order
from lcm_lora.errors import UserError
from lcm_lora.files import write_bytes
from lcm_lora.params.distill import Distill
from lcm_lora.params.hardware import Hardware
from lcm_lora.progress import Advance, progress
from lcm_lora.store import Store, open_store
from lcm_lora.training.checkpoints import kept_elsewhere
from lcm_lora.training.curve import CURVE, CurveRow, curve_lines
from lcm_lora.training.draws import draw
from lcm_lora.training.feed import Batch, feed, on_its_way
from lcm_lora.training.origin import Origin
from lcm_lora.training.ranks import Ranks
from lcm_lora.training.rates import learning_rates
from lcm_lora.training.sharing import cuts
from lcm_lora.training.state import (
    State,
    follow,
    identity,
    keep_candidate,
    keep_only,
    restore,
    save_checkpoint,
)

_STEPS_BETWEEN_READS = 10
"""Losses stay on the device this long: reading one waits for all the work queued before it."""
_MOST_OVERFLOWS = 50
"""Steps in a row without an update; by then a loss scale has fallen from 2^16 to 2^-34."""


_SILENT: contextlib.AbstractContextManager[Advance] = contextlib.nullcontext(lambda *_: None)


class Run:
    """A distillation in progress: the networks, the data, the optimiser and how far they are."""

    def __init__(
        self,
        params: Distill,
        hardware: Hardware,
        base: Base,
        latents: LatentCache,
        origin: Origin,
        ranks: Ranks,
    ) -> None:
        self.params, self.latents, self.base, self.ranks = params, latents, base, ranks
        self.origin, self.empty, self.device = origin, base.unconditional(), base.device
        config = base.pipeline.scheduler.config
        self.prediction = config.prediction_type
        self.schedule = schedule_of(config).to(base.device)
        self.grid = solver_grid(config.num_train_timesteps, params.grid).to(base.device)
        self.learning_rate, self.cuts = learning_rates(params), cuts(params, ranks)

        attach(base.unet, params.rank, params.alpha, params.seed)
        compute_as_given(base.unet)
        base.unet.to(memory_format=torch.channels_last)
        if params.gradient_checkpointing:
            base.unet.train()  # diffusers checkpoints in training mode only; there is no dropout
            base.unet.enable_gradient_checkpointing()
        named = {name: p for name, p in base.unet.named_parameters() if p.requires_grad}
        # Fused, it looks at the loss scale on the device; the others wait for it at every step.
        optimiser = torch.optim.AdamW(named.values(), weight_decay=params.weight_decay, fused=True)
        scaler = torch.amp.GradScaler(base.device.type, enabled=hardware.precision == "fp16")
        self.student, self.teacher = _student(base), _teacher(base)
        self.state = State(named, optimiser, scaler, origin)

    def places(self) -> Iterator[range]:
        """Yield the places of the micro-batches to come in the run's sequence of samples."""
        for step in range(self.state.step, self.params.steps):
            first = step * self.params.batch
            yield from (range(first + cut.start, first + cut.stop) for cut in self.cuts)

    def make(self, places: range) -> Batch:
        """Return the samples at `places` of the run's sequence, and all that is drawn for them."""
        params, about = self.params, self.latents.index.about
        rows = self.latents.rows(order(len(self.latents), params.seed, places.start, len(places)))
        guidance = lcm_range(params.guidance)
        draws = draw(params.seed, places, about.shape, params.grid, guidance)
        x0 = about.scaling_factor * (rows.mean + rows.std * draws.posterior)
        x0, index, noise, w = (
            on_its_way(tensor, self.device)
            for tensor in (x0, draws.step.index, draws.step.noise, draws.step.w)
        )
        told = self.base.conditioning(rows.captions, rows.time_ids)
        return Batch(x0, told, Draws(index, noise, w))

    def step(self, batches: Iterator[Batch]) -> tuple[Tensor, Tensor]:
        """Make one optimiser step; return loss and gradient norm before clipping, on the device.

        With a loss scale, a step whose gradients overflow counts too: it lowers the scale and
        changes no weight.
        """
        params, state = self.params, self.state
        for group in state.optimiser.param_groups:
            group["lr"] = self.learning_rate(state.step + 1)
        total = torch.zeros((), device=self.device)
        for batch in itertools.islice(batches, len(self.cuts)):
            loss = self._loss(batch) * (len(batch.x0) / params.batch)
            state.scaler.scale(loss).backward()
            total += loss.detach()
        weights = list(state.parameters.values())
        self.ranks.add_up([total, *(weight.grad for weight in weights if weight.grad is not None)])
        state.scaler.unscale_(state.optimiser)
        norm = torch.nn.utils.clip_grad_norm_(weights, params.clip_norm)
        state.scaler.step(state.optimiser)
        state.scaler.update()
        state.optimiser.zero_grad()
        state.step += 1
        state.origin = self.origin
        return total, norm

    def _loss(self, batch: Batch) -> Tensor:
        """Return the mean loss of a micro-batch."""
        params, samples = self.params, len(batch.x0)
        predictions = distillation_step(
            self.student,
            self.teacher,
            self.schedule,
            self.grid,
            self.prediction,
            batch.x0,
            batch.conditioning,
            {name: v.expand(samples, *v.shape[1:]) for name, v in self.empty.items()},
            batch.draws,
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
    ranks: Ranks,
) -> tuple[State, Store]:
    """Train a fresh adapter on `base`, or go on where a killed run of the same identity stopped.

    Args:
        params: Of the distillation.
        hardware: The base is already on its device; here it names the precision.
        base: The frozen teacher; gets the adapter attached and trained.
        latents: What `encode` wrote.
        cache_sha256: Of the cache's index, which holds the hashes of all its files.
        checkpoints: Where the run keeps its state, if neither the parameters nor the environment
            name another place, and `curve.jsonl`, which grows as it goes.
        origin: What makes the steps from here on.
        ranks: Which of the processes this is that train together; the main one writes.

    Returns:
        The state at the end, and where the candidates along the way are.

    Raises:
        UserError: A wrong parameter, a cache of another base, a loss or gradient that is not
            finite, or checkpoints that cannot be kept.
    """
    if latents.index.autoencoder != base.found.part_sha256("vae"):
        raise UserError(
            f"the cache holds latents of another autoencoder than that of {base.name}; run "
            "`lcm-lora encode`"
        )
    run = Run(params, hardware, base, latents, origin, ranks)
    name = _identity(params, hardware, base, cache_sha256)
    elsewhere = kept_elsewhere(params)
    store = elsewhere or open_store(str(checkpoints.absolute()), "checkpoints")
    if ranks.is_main:
        restore(run.state, store.at(name), params)
        if elsewhere is None:  # elsewhere, others may keep theirs
            keep_only(store, name)
    from_step = ranks.of_main(run.state.step, base.device)
    if not ranks.is_main:
        follow(run.state, store.at(name), from_step)
    elif from_step:
        sys.stdout.write(f"distill: resumed from step {from_step} of {params.steps}\n")
    _go(run, store.at(name), checkpoints / CURVE)
    return run.state, store.at(name)


def _go(run: Run, store: Store, live: Path) -> None:
    """Make the steps that are missing."""
    params, state, is_main = run.params, run.state, run.ranks.is_main
    pending: list[tuple[Tensor, Tensor]] = []
    if is_main:
        write_bytes(live, curve_lines(state.curve))
    shown = progress("distill", params.steps, "steps", state.step) if is_main else _SILENT
    with shown as advance, feed(run.make, run.places(), run.device) as batches:
        while state.step < params.steps:
            pending.append(run.step(batches))
            saved = _is_saved(params, state.step)
            note = ""
            if saved or state.step % _STEPS_BETWEEN_READS == 0:
                rows = _read(pending, run)
                note = f"loss {rows[-1].loss:.5f}"
                if is_main:
                    with live.open("ab") as file:
                        file.write(curve_lines(rows))
            if saved and is_main:
                if params.candidates.at(state.step):
                    keep_candidate(state, store)
                save_checkpoint(state, store)
            advance(1, note)


def _is_saved(params: Distill, step: int) -> bool:
    """Tell whether a checkpoint follows a step."""
    is_due = step % params.checkpoint_every == 0
    return is_due or step == params.steps or params.candidates.at(step)


def _identity(params: Distill, hardware: Hardware, base: Base, cache_sha256: str) -> str:
    """Return the name of a run: all that decides what a step computes, and nothing else.

    Which candidates are kept is left to `restore`: that asks if a checkpoint has those wanted.
    """
    # A longer run goes on from a shorter one, unless its learning rate falls towards its end.
    free = {"candidates", "checkpoint_every", "checkpoints", "export", "processes"}
    free |= {"steps"} if params.schedule == "constant" else set()
    return identity(
        {
            "params": params.model_dump(exclude=free),
            "hardware": hardware.model_dump(),
            "base": base.found.sha256,
            "cache": cache_sha256,
            "code": code_sha256(__name__),
            "versions": versions(),
        }
    )


def _read(pending: list[tuple[Tensor, Tensor]], run: Run) -> list[CurveRow]:
    """Move the pending losses into the curve, and return them as its rows."""
    rows = []
    for loss, norm in pending:
        row = _row(len(run.state.curve) + 1, float(loss), float(norm), run)
        run.state.curve.append(row)
        rows.append(row)
    pending.clear()
    newest = run.state.curve[-_MOST_OVERFLOWS:]
    if len(newest) == _MOST_OVERFLOWS and all(row.grad_norm is None for row in newest):
        raise UserError(
            f"distill: the gradients of the last {_MOST_OVERFLOWS} steps overflow fp16; take bf16 "
            "or fp32 for hardware.precision"
        )
    return rows


def _row(step: int, loss: float, norm: float, run: Run) -> CurveRow:
    """Return a row of the curve; only with a loss scale may a gradient overflow."""
    is_fine = math.isfinite(norm)
    if not math.isfinite(loss) or not (is_fine or run.state.scaler.is_enabled()):
        what, value = ("gradient", norm) if math.isfinite(loss) else ("loss", loss)
        raise UserError(
            f"distill: the {what} of step {step} is {value}; lower distill.learning_rate, "
            "or look for broken pictures (the last checkpoint before is kept)"
        )
    return CurveRow(
        step=step,
        loss=loss,
        grad_norm=norm if is_fine else None,
        learning_rate=run.learning_rate(step),
    )


def _student(base: Base) -> Denoiser:
    """Return the adapted denoiser; its fp32 adapter computes in the base's precision too."""
    denoise, dtype = base.denoiser(base.unet), base.dtype

    def denoise_adapted(z: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        with torch.autocast(z.device.type, dtype, enabled=dtype != torch.float32):
            return denoise(z, timesteps, conditioning)

    return denoise_adapted


def _teacher(base: Base) -> Denoiser:
    """Return the denoiser with its adapter off."""
    plain = _student(base)

    def denoise(z: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        with adapter_off(base.unet):
            return plain(z, timesteps, conditioning)

    return denoise
