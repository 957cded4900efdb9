"""Measure how long pictures take: the network alone, and from caption to pixels.

A measurement of its own: image sets are compared by hash, and two clocks never agree. An adapter is
in the base's own weights while it paints, so the times are the base's, whoever paints.

Legend: B pictures.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from lcm_lora.bases import Base
from lcm_lora.data.picture_sets import read_set
from lcm_lora.painting.latencies import CellLatency, Latency
from lcm_lora.painting.paint import paint
from lcm_lora.painting.schedulers import scheduler_of
from lcm_lora.params.generate import Cell, Generate
from lcm_lora.progress import progress
from lcm_lora.records import write_record

_REPEATS = 5
_MOST = 8
"""Pictures at a time; more say little about how long one waits for its picture."""
_BUDGET = 1.5
"""Seconds that one number may take; long ones are repeated less."""


def measure_latency(params: Generate, base: Base, evaluation: Path, out: Path) -> None:
    """Time every step count that some painter is asked for, guided and not, and write `out`.

    Args:
        params: Which cells, and how many pictures at a time.
        base: What paints.
        evaluation: What `prepare` wrote: captions and the size of pictures.
        out: Record to write.

    Raises:
        UserError: The evaluation set is missing.
    """
    real = read_set(evaluation, "real")
    captions = real.captions[: min(params.batch, _MOST)]
    kinds = sorted({(cell.steps, cell.guidance > 1) for cell in _cells(params)})
    cells = []
    with progress("latency", len(kinds), "step counts") as advance:
        for steps, is_guided in kinds:
            took = _of_cell(base, captions, steps, is_guided, real.resolution, params.seed)
            ms = round(1000 * took.median / len(captions), 3)
            cell = CellLatency(steps=steps, is_guided=is_guided, ms=ms, repeats=took.repeats)
            cells.append(cell)
            advance(1, f"{steps} steps")
    parts = _of_parts(base, captions, real.resolution)
    denoiser, decoder, text = (round(1000 * p.median / len(captions), 4) for p in parts)
    write_record(
        out,
        Latency(
            device=_device_name(base.device),
            dtype=str(base.dtype).removeprefix("torch."),
            batch=len(captions),
            resolution=real.resolution,
            repeats=min(*(cell.repeats for cell in cells), *(part.repeats for part in parts)),
            denoiser_ms=denoiser,
            decoder_ms=decoder,
            text_ms=text,
            cells=tuple(cells),
        ),
    )


@dataclass(frozen=True, slots=True)
class _Took:
    """How long some work takes, in seconds, and from how many timings that is known."""

    median: float
    repeats: int


def _cells(params: Generate) -> list[Cell]:
    return [cell for name in params.names for cell in params.painter(name).cells]


def _of_cell(
    base: Base, captions: Sequence[str], steps: int, is_guided: bool, size: int, seed: int
) -> _Took:
    cell = Cell(steps=steps, guidance=2.0 if is_guided else 1.0)
    base.pipeline.scheduler = scheduler_of("ddim", dict(base.pipeline.scheduler.config))

    def painting(cell: Cell) -> Callable[[], object]:
        return lambda: paint(base, captions, cell, size, seed)

    # One step does all that a first time does; fifty of them may take minutes.
    once = painting(cell.model_copy(update={"steps": 1}))
    return _median(painting(cell), base.device, once)


@torch.inference_mode()
def _of_parts(base: Base, captions: Sequence[str], size: int) -> tuple[_Took, _Took, _Took]:
    """Time one pass of B through the denoiser, the decoder and the text parts."""
    count, side = len(captions), size // base.downsampling
    ids = torch.tensor([[size, size, 0, 0, size, size]]).repeat(count, 1)
    told = base.conditioning(list(captions), ids)
    channels, device = base.unet.config.in_channels, base.device
    latents = torch.zeros(count, channels, side, side, device=device)
    timesteps = torch.full((count,), 500, device=device)
    denoise = base.denoiser(base.unet)
    one = latents[:1, : base.vae.config.latent_channels]
    decoding = _median(lambda: base.vae.decode(one), device)
    return (
        _median(lambda: denoise(latents, timesteps, told), device),
        _Took(count * decoding.median, decoding.repeats),
        _median(lambda: base.conditioning(list(captions), ids), device),
    )


def _median(
    work: Callable[[], object], device: torch.device, first: Callable[[], object] | None = None
) -> _Took:
    """Time `work` some times, after one run, of `first` where it is given, that is not counted."""
    _timed(first or work, device)
    times: list[float] = []
    while len(times) < _REPEATS and (not times or sum(times) + times[-1] < _BUDGET):
        times.append(_timed(work, device))
    return _Took(statistics.median(times), len(times))


def _timed(work: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"CPU, {torch.get_num_threads()} threads"
