"""Refuse, before hours of work, parameters that do not fit each other, the data or the disk.

Nothing here reads a file or imports a network, so a run can begin with it.
"""

from __future__ import annotations

import math
import os.path
from collections.abc import Iterator
from pathlib import Path

from lcm_lora import layout
from lcm_lora.errors import UserError
from lcm_lora.evaluation.names import has_several_noises, metrics_of, selection_metrics
from lcm_lora.evaluation.scores import MetricRecord
from lcm_lora.gate.check import check_gate
from lcm_lora.inventory.modules import is_published
from lcm_lora.params.base import Base
from lcm_lora.params.file import Params
from lcm_lora.params.generate import ADAPTER, CHAMPION, TEACHER, Cell
from lcm_lora.params.sources import FolderSource, ShapesSource, Source, WebdatasetSource
from lcm_lora.params.transfer import Map

_STANDARD_DEVIATIONS = 5
"""A fair draw that exceeds its mean by more comes once in three million."""
_FEWEST_TO_SELECT = 8
"""Captions; what is chosen by fewer is chosen by chance."""


def check_params(params: Params) -> None:
    """Check all parameters against each other.

    Raises:
        UserError: Some stage would fail for them, or nothing could come of it.
    """
    _check_base(params.base)
    _check_sources(params)
    _check_overlap(params.prepare.source, params.evaluation.source)
    _check_evaluation(params)
    if params.hardware.device == "cpu" and params.hardware.precision == "fp16":
        raise UserError("hardware.precision: fp16 trains on a GPU only; take fp32 or bf16")
    _check_painters(params)
    _check_grid(params)
    _check_select(params)
    check_gate(params.registry.gate, params.generate.adapter.cells, _metrics(params))
    _check_transfer(params)


def check_counts(params: Params, pictures: int, evaluation_pictures: int | None) -> None:
    """Check that there are pictures enough, before any is filtered.

    Args:
        params: What is wanted of them.
        pictures: How many there are in prepare.source.
        evaluation_pictures: And in evaluation.source, if it has one.

    Raises:
        UserError: There are fewer than are needed, or too few will be kept back by chance.
    """
    evaluation, prepare = params.evaluation, params.prepare
    prompts = 2 * evaluation.prompts
    if evaluation_pictures is not None and evaluation_pictures < prompts:
        raise UserError(
            f"evaluation.prompts: {evaluation.prompts} and as many others to compare with are more "
            f"than the {evaluation_pictures} pictures of evaluation.source; lower it, or add some"
        )
    splits = {"held_out": (prepare.held_out, prompts)} if evaluation_pictures is None else {}
    splits["selection"] = (prepare.selection, evaluation.selection)
    needed = 1 + sum(wanted for _, wanted in splits.values())
    if pictures < needed:
        raise UserError(
            f"prepare.source: {pictures} pictures are fewer than the {needed} that evaluation and "
            "one to train on need; add some, or lower evaluation.prompts or evaluation.selection"
        )
    for name, (share, wanted) in splits.items():
        deviation = math.sqrt(pictures * share * (1 - share))
        if wanted > pictures * share + _STANDARD_DEVIATIONS * deviation:
            raise UserError(
                f"prepare.{name}: {share:g} of {pictures} pictures are about "
                f"{pictures * share:.0f}, and evaluation needs {wanted}; raise it, add pictures, "
                f"or lower evaluation.{'prompts' if name == 'held_out' else 'selection'}"
            )


def check_disk(planned_bytes: int, free_bytes: int, where: Path) -> None:
    """Check that what a run will write fits.

    Raises:
        UserError: It does not.
    """
    if planned_bytes > free_bytes:
        raise UserError(
            f"{where}: a run needs about {planned_bytes / 1e9:.1f} GB there, and "
            f"{free_bytes / 1e9:.1f} GB are free; free some, or work on another disk"
        )


def _check_base(base: Base) -> None:
    """Refuse what painters and subjects alone may name: adapters tell where their base is from."""
    for name in ("model", "vae"):
        if (named := getattr(base, name)) and is_published(named):
            raise UserError(
                f"base.{name}: {named} is in the registry, where subjects and painters alone take "
                "bases from; name its folder, file or hub id"
            )


def _check_sources(params: Params) -> None:
    for name, source in _sources(params):
        if isinstance(source, ShapesSource):
            side, smallest = params.prepare.resolution, params.prepare.min_side
            if side < smallest:
                raise UserError(
                    f"prepare.min_side: {smallest} rejects every scene of {name}, drawn at "
                    f"prepare.resolution {side}; lower it"
                )
        elif written := next((out for out in _outputs() if _overlap(source.path, out)), None):
            raise UserError(
                f"{name}.path: {source.path} and {written}, which is written by the project "
                "itself, are one within the other; keep pictures elsewhere"
            )


def _sources(params: Params) -> Iterator[tuple[str, Source]]:
    yield "prepare.source", params.prepare.source
    if params.evaluation.source is not None:
        yield "evaluation.source", params.evaluation.source


def _outputs() -> list[Path]:
    return [path for path in vars(layout).values() if isinstance(path, Path)]


def _overlap(one: Path, other: Path) -> bool:
    """Tell whether two paths are the same, or one is within the other, as far as names say."""
    a, b = (Path(os.path.normpath(path)) for path in (one, other))
    return a.is_relative_to(b) or b.is_relative_to(a)


def _check_overlap(training: Source, evaluation: Source | None) -> None:
    match training, evaluation:
        case ShapesSource(), ShapesSource():
            shared = training.seed == evaluation.seed
        case (FolderSource(path=one), FolderSource(path=other)) | (
            WebdatasetSource(path=one),
            WebdatasetSource(path=other),
        ):
            shared = _overlap(one, other)
        case _:
            shared = False
    if shared:
        raise UserError(
            "evaluation.source: its pictures are in prepare.source too, and would be trained on; "
            "keep them apart, or set it to null and let prepare.held_out keep some back"
        )


def _check_evaluation(params: Params) -> None:
    prompts = params.evaluation.prompts
    if params.evaluation.source is None and params.prepare.held_out == 0:
        raise UserError(
            "prepare.held_out: 0 leaves no pictures to evaluate on; raise it, or name an "
            "evaluation.source"
        )
    for name, count in (("rows", params.report.rows), ("worst", params.report.worst)):
        if count > prompts:
            raise UserError(
                f"report.{name}: {count} pictures cannot be shown of evaluation.prompts {prompts}; "
                "lower it"
            )


def _check_painters(params: Params) -> None:
    generate = params.generate
    for name in [n for n in generate.names if n != CHAMPION]:
        where = "generate.adapter" if name == ADAPTER else f"generate painter {name}"
        _check_cells(where, generate.painter(name).cells, is_teacher=name == TEACHER)


def _check_transfer(params: Params) -> None:
    transfer, prompts = params.transfer, params.evaluation.prompts
    if not transfer.subjects:
        return
    if transfer.prompts > prompts:
        raise UserError(
            f"transfer.prompts: {transfer.prompts} are more than evaluation.prompts {prompts}, of "
            "which they are the first; lower it"
        )
    for name, painter in transfer.painters.items():
        _check_cells(f"transfer.painters.{name}", painter.cells, is_teacher=name == TEACHER)
    _check_cells("transfer.adapter", transfer.adapter.cells, is_teacher=False)
    if transfer.map:
        _check_map(transfer.map)
    for name, subject in transfer.subjects.items():
        if subject.looks is not None and not params.score.attributes:
            raise UserError(
                f"transfer.subjects.{name}.looks: pictures of the shapes world alone have looks "
                "that can be judged; set it to null"
            )


def _check_map(wanted: Map) -> None:
    _check_cells("transfer.map", (wanted.cell,), is_teacher=False)
    for name in ("acceleration", "style"):
        weights = getattr(wanted, name)
        if twice := next((w for w in weights if weights.count(w) > 1), None):
            raise UserError(f"transfer.map.{name}: {twice:g} is there more than once; remove one")
        if 1.0 not in weights:
            raise UserError(
                f"transfer.map.{name}: 1 is missing, with which all points are compared; add it"
            )


def _check_cells(where: str, cells: tuple[Cell, ...], is_teacher: bool) -> None:
    """Refuse image sets that would overwrite each other, or that nothing is compared with."""
    names = [cell.name for cell in cells]
    for cell in cells:
        if names.count(cell.name) > 1:
            raise UserError(f"{where}: {cell.name} is there more than once; remove one")
        first = cell.model_copy(update={"seeds": 0})
        if first.name not in names:
            raise UserError(
                f"{where}: {cell.name} has no counterpart with seeds 0, which figures and pairs "
                "show; add it"
            )
    most = max(cell.nfe for cell in cells)
    if is_teacher and not any(cell.seeds and cell.nfe == most for cell in cells):
        raise UserError(
            f"{where}: the cell of most evaluations has no seeds but 0; add it again with seeds 1, "
            "which all others are compared with"
        )


def _check_grid(params: Params) -> None:
    grid = params.distill.grid
    for name, steps in _steps_on_grid(params):
        if steps > grid:
            raise UserError(
                f"{name}: {steps} steps are more than the adapter is trained for, "
                f"distill.grid {grid}; lower them"
            )


def _steps_on_grid(params: Params) -> Iterator[tuple[str, int]]:
    """Yield how many steps are taken over the trained grid, each with its parameter."""
    generate, transfer = params.generate, params.transfer
    if generate.adapter.sampler == "lcm":
        yield "generate.adapter.cells", max(cell.steps for cell in generate.adapter.cells)
    if transfer.subjects and transfer.adapter.sampler == "lcm":
        yield "transfer.adapter.cells", max(cell.steps for cell in transfer.adapter.cells)
        if transfer.map:
            yield "transfer.map.cell", transfer.map.cell.steps
    yield "select.steps", params.select.steps


def _check_select(params: Params) -> None:
    metrics = selection_metrics(params.score)
    if params.select.metric not in metrics:
        raise UserError(
            f"select.metric: candidates cannot be judged by {params.select.metric}; take "
            f"{_or(metrics)}"
        )
    if (count := params.evaluation.selection) < _FEWEST_TO_SELECT:
        raise UserError(
            f"evaluation.selection: {count} captions choose by chance; take {_FEWEST_TO_SELECT} or "
            "more"
        )


def _metrics(params: Params) -> tuple[MetricRecord, ...]:
    found = metrics_of(params.score, has_several_noises(params.generate.adapter.cells))
    names = [metric.name for metric in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(
            f"score: two metrics would be called {twice}; rename a plug-in, or take one network of "
            "kind inception"
        )
    return found


def _or(choices: list[int] | list[str]) -> str:
    *others, last = map(str, choices)
    return f"{', '.join(others)} or {last}" if others else last
