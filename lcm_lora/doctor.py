"""Say in one screen whether a run can end well here, and what it will take, before it begins.

Every question is asked even if an earlier one was answered badly, so that all can be mended at
once.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil
import torch

from lcm_lora.check import check_counts, check_disk, check_params
from lcm_lora.data.units import SourceInventory
from lcm_lora.device import pick_device
from lcm_lora.errors import UserError
from lcm_lora.estimate import ADAPTER_BYTES, Memory, Work, memory, work
from lcm_lora.families.check import check_base
from lcm_lora.families.family import FAMILIES
from lcm_lora.families.found import BaseInventory
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base import look_at_base
from lcm_lora.inventory.base_files import where_is
from lcm_lora.inventory.look import Look, look_at_judges, new_bytes
from lcm_lora.inventory.networks import look_at_networks
from lcm_lora.inventory.painters import look_at_painters
from lcm_lora.inventory.source import look_at_source
from lcm_lora.inventory.subjects import look_at_subjects
from lcm_lora.params.file import Params, load_params
from lcm_lora.params.generate import Cell
from lcm_lora.precision import DTYPES
from lcm_lora.store import ENVIRONMENT, shared_store
from lcm_lora.training.checkpoints import kept_elsewhere
from lcm_lora.training.sharing import micro_batch, processes

_SHARE = 0.45
"""Of a device's bare multiplications, what a whole run reaches: MLPerf Training v5.1 has Stable
Diffusion at 361 of the 790 TFLOP/s that an H100 multiplies matrices with."""
_MARGIN = 1.15
"""For what no count sees: libraries, the allocator's gaps, the networks' working memory."""
_SECONDS_TO_MEASURE = 0.5


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question."""

    about: str
    says: str
    is_well: bool = True


@dataclass(slots=True)
class _Seen:
    """What earlier answers leave for later questions."""

    params: Params
    base: BaseInventory | None = None
    source: SourceInventory | None = None
    needed: Memory | None = None


def examine(path: Path, hashes: Hashes, before: Look) -> Iterator[Finding]:
    """Yield the answers, in order.

    Args:
        path: The parameter file.
        hashes: Of files that were read before.
        before: What an earlier look saw, which spares work.
    """
    try:
        seen = _Seen(load_params(path))
        check_params(seen.params)
    except UserError as error:
        yield Finding("parameters", str(error), is_well=False)
        return
    yield Finding("parameters", f"{path}: fit each other")
    questions: dict[str, Callable[[], str]] = {
        "base": lambda: _base(seen, hashes),
        "pictures": lambda: _pictures(seen, hashes, before),
        "networks": lambda: _networks(seen.params, hashes),
        "painters": lambda: _painters(seen, hashes),
        "transfer": lambda: _transfer(seen, hashes),
        "store": _store,
        "device": lambda: _device(seen.params),
        "memory": lambda: _memory(seen),
        "disk": lambda: _disk(seen, before),
        "time": lambda: _time(seen),
    }
    for about, ask in questions.items():
        try:
            yield Finding(about, ask())
        except (UserError, OSError) as error:
            yield Finding(about, str(error), is_well=False)


def _base(seen: _Seen, hashes: Hashes) -> str:
    found = look_at_base(seen.params.base, hashes)
    seen.base = found
    check_base(seen.params, found.structure)
    commit = f", commit {found.commit[:12]}" if found.commit else ""
    title = FAMILIES[found.structure.family].title
    return f"{found.model}: {title}, {found.structure.prediction_type}{commit}"


def _pictures(seen: _Seen, hashes: Hashes, before: Look) -> str:
    params = seen.params
    seen.source = look_at_source(params.prepare.source, hashes, before.source)
    fixed = params.evaluation.source
    own = look_at_source(fixed, hashes, before.evaluation).pictures if fixed else None
    check_counts(params, seen.source.pictures, own)
    apart = f", {own:,} in evaluation.source" if own is not None else ""
    return f"{seen.source.pictures:,} in prepare.source{apart}"


def _networks(params: Params, hashes: Hashes) -> str:
    found = look_at_networks(params.score, hashes)
    return ", ".join(dict.fromkeys([*(m.model for m in found.features.values()), found.clip.model]))


def _painters(seen: _Seen, hashes: Hashes) -> str:
    if seen.base is None:
        raise UserError("base.model: without a base no adapter can be said to fit; mend it first")
    found = look_at_painters(seen.params.generate, seen.base, hashes)
    return f"{', '.join(found)}; all that they name is there, and fits the base"


def _transfer(seen: _Seen, hashes: Hashes) -> str:
    if not seen.params.transfer.subjects:
        return "no subjects: the new adapter is not tried elsewhere"
    if seen.base is None:
        raise UserError("base.model: without a base no subject can be said to fit; mend it first")
    found = look_at_subjects(seen.params.transfer, seen.base, hashes)
    look_at_judges(seen.params, hashes)
    return f"{', '.join(found)}; all that they name is there, and fits"


def _store() -> str:
    shared = shared_store()
    if shared is None:
        return f"none in {ENVIRONMENT}: what is made stays on this machine"
    shared.check()
    return f"{shared.root}, shared with other machines: can be written"


def _disk(seen: _Seen, before: Look) -> str:
    where = Path.cwd()
    free = shutil.disk_usage(where).free
    if seen.source is None:
        return f"{_gigabytes(free)} free; what is needed depends on the pictures"
    data = new_bytes(seen.params.prepare, before.source, seen.source)
    elsewhere = kept_elsewhere(seen.params.distill)
    if elsewhere:
        elsewhere.check()
    kept = 0 if elsewhere else _checkpoints(seen)
    check_disk(data + kept, free, where)
    return (
        f"shards and cache take {_gigabytes(data)} more, checkpoints and candidates "
        f"{_gigabytes(kept)}; {_gigabytes(free)} are free"
    )


def _checkpoints(seen: _Seen) -> int:
    """Return the bytes of what a training keeps: each candidate, and three times its moments too.

    Two checkpoints stay, and a third is there while it is written.
    """
    weights = 4 * (_training_memory(seen).adapter // ADAPTER_BYTES)
    steps = range(1, seen.params.distill.steps + 1)
    candidates = sum(seen.params.distill.candidates.at(step) for step in steps)
    return weights * (candidates + 3 * 3)


def _device(params: Params) -> str:
    device = pick_device(params.hardware)
    precision = params.hardware.precision
    processes(params.distill, params.hardware)  # refuses more than there are devices
    if device.type == "cpu":
        cores, total = psutil.cpu_count(logical=False), psutil.virtual_memory().total
        return f"CPU, {cores} cores, {_gigabytes(total)}, computing in {precision}"
    about = torch.cuda.get_device_properties(device)
    if precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError(
            f"hardware.precision: {about.name} does not compute in bf16; take fp16 or fp32"
        )
    return (
        f"{torch.cuda.device_count()} x {about.name}, {_gigabytes(about.total_memory)} each, "
        f"computing in {precision}"
    )


def _memory(seen: _Seen) -> str:
    params, needed = seen.params, _training_memory(seen)
    device = pick_device(params.hardware)
    has, share = psutil.virtual_memory().total, processes(params.distill, params.hardware)
    if device.type == "cuda":
        has, share = torch.cuda.get_device_properties(device).total_memory, 1
    total = int(_MARGIN * needed.total) * share
    says = (
        f"training takes {_gigabytes(total)} of {_gigabytes(has)}: denoiser "
        f"{_gigabytes(needed.denoiser)}, encoders {_gigabytes(needed.others)}, adapter and "
        f"optimiser {_gigabytes(needed.adapter)}, activations {_gigabytes(needed.activations)}"
    )
    if total > has:
        raise UserError(
            f"{says}; raise distill.accumulation, set distill.gradient_checkpointing, or take a "
            "lower hardware.precision or a larger device"
        )
    return says


def _training_memory(seen: _Seen) -> Memory:
    params = seen.params
    if seen.needed is None:
        count = processes(params.distill, params.hardware)
        seen.needed = memory(
            _configs(seen),
            params.distill,
            params.hardware.precision,
            params.prepare.resolution,
            micro_batch(params.distill, count),
        )
    return seen.needed


def _time(seen: _Seen) -> str:
    params = seen.params
    if seen.source is None:
        raise UserError("prepare.source: without pictures nothing can be counted; mend it first")
    each = work(_configs(seen), params.prepare.resolution)
    denoiser, autoencoder = (
        _SHARE * multiplications_per_second(params, dtype)
        for dtype in (DTYPES[params.hardware.precision], torch.float32)
    )
    samples, (kept, anew) = params.distill.steps * params.distill.batch, painted(params)
    training = each.of_training(params.distill.gradient_checkpointing)
    seconds = {
        "encode": seen.source.pictures * each.encoder / autoencoder,
        "distill": samples * training / denoiser / _speedup(params),
        "teacher and solvers, once,": _seconds(kept, each, denoiser, autoencoder),
        "adapter and champion": _seconds(anew, each, denoiser, autoencoder),
    }
    if params.transfer.subjects:
        seconds["transfer"] = _seconds(elsewhere(params), each, denoiser, autoencoder)
    said = ", ".join(f"{stage} {_hours(value / 3600)}" for stage, value in seconds.items())
    return (
        f"about {said}, at {100 * _SHARE:.0f} % of {denoiser / _SHARE / 1e12:.3g} TFLOP/s, which "
        "was just measured; choosing and scoring come on top"
    )


def _seconds(counts: Counts, each: Work, denoiser: float, autoencoder: float) -> float:
    return counts.passes * each.denoiser / denoiser + counts.pictures * each.decoder / autoencoder


def _speedup(params: Params) -> int:
    """Return how many devices train; processes on one CPU share it."""
    is_gpu = pick_device(params.hardware).type == "cuda"
    return processes(params.distill, params.hardware) if is_gpu else 1


@dataclass(frozen=True, slots=True)
class Counts:
    """What evaluation paints: passes of the denoiser, and pictures."""

    passes: int
    pictures: int

    @classmethod
    def of(cls, prompts: int, cells: Iterable[Cell]) -> Self:
        """Count the cells of some painters."""
        nfe = [cell.nfe for cell in cells]
        return cls(prompts * sum(nfe), prompts * len(nfe))


def painted(params: Params) -> tuple[Counts, Counts]:
    """Return what is painted once and kept, and what each new adapter and its champion paint."""
    generate, prompts = params.generate, params.evaluation.prompts
    kept = [cell for painter in generate.painters.values() for cell in painter.cells]
    anew = [*generate.adapter.cells, *generate.adapter.cells]
    return Counts.of(prompts, kept), Counts.of(prompts, anew)


def elsewhere(params: Params) -> Counts:
    """Return what the new adapter and all others paint in the subjects of the transfer evaluation.

    What subjects share is painted once, so it may be less.
    """
    transfer = params.transfer
    painters = [*transfer.painters.values(), transfer.adapter]
    cells = [cell for painter in painters for cell in painter.cells] * len(transfer.subjects)
    for subject in transfer.subjects:
        cells += [transfer.map.cell] * len(transfer.mixes(subject)) if transfer.map else []
    return Counts.of(transfer.prompts, cells)


def multiplications_per_second(params: Params, dtype: torch.dtype) -> float:
    """Return the FLOP/s of one device on a layer such as the denoiser has."""
    device = pick_device(params.hardware)
    layer = torch.nn.Conv2d(320, 320, 3, padding=1, device=device, dtype=dtype)
    layer = layer.to(memory_format=torch.channels_last)
    rows = torch.zeros(2 if device.type == "cpu" else 16, 320, 64, 64, device=device, dtype=dtype)
    rows = rows.to(memory_format=torch.channels_last)
    flop = 2.0 * rows.numel() * 320 * 9
    passes = 0
    with torch.inference_mode():
        _finished(layer(rows))
        started = time.perf_counter()
        while (spent := time.perf_counter() - started) < _SECONDS_TO_MEASURE:
            _finished(layer(rows))
            passes += 1
    return passes * flop / spent


def _finished(output: torch.Tensor) -> None:
    if output.device.type == "cuda":
        torch.cuda.synchronize(output.device)


def _configs(seen: _Seen) -> Path:
    if seen.base is None:
        raise UserError("base.model: without a base nothing can be counted; mend it first")
    return where_is(seen.base).configs


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.3g} GB"


def _hours(value: float) -> str:
    if value < 1:
        return f"{60 * value:.2g} min"
    return f"{value:.2g} h" if value < 100 else f"{value / 24:.2g} days"
