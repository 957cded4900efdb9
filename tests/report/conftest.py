"""Whole folders of artifacts, small, as the stages before the report write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browsers import CHROMIUM
from made_sets import cell_record, pair_of, real_record, write_pictures
from numpy.typing import NDArray

from lcm_lora.adapter_files import KOHYA, RECIPE, WEIGHTS
from lcm_lora.champion import write_champion
from lcm_lora.evaluation.scores import (
    Against,
    CellRecord,
    Champion,
    MetricRecord,
    Pair,
    Protocol,
    Row,
    Table,
)
from lcm_lora.evaluation.selection import JudgedCandidate, Selection
from lcm_lora.files import sha256, write_bytes, write_tensors
from lcm_lora.gate.decision import Decision
from lcm_lora.gate.rules import decide
from lcm_lora.painting.latencies import CellLatency, Latency
from lcm_lora.params.generate import ADAPTER, CHAMPION, REAL, TEACHER, Cell, Sampler
from lcm_lora.params.registry import Gate
from lcm_lora.params.report import Report
from lcm_lora.recipe import Recipe, read_recipe
from lcm_lora.records import write_record
from lcm_lora.report.page import Sources, report
from lcm_lora.seeing.image_sets import captions_sha256
from lcm_lora.seeing.set_records import (
    FeatureRecord,
    NetworkRecord,
    Painted,
)
from lcm_lora.shapes.scenes import draw_scenes, render
from lcm_lora.training.curve import CURVE, CurveRow, curve_lines
from lcm_lora.training.origin import ORIGIN, Origin

collect_ignore = [] if CHROMIUM else ["test_browser.py"]

N = 24

_FEW = (1, 2, 4, 8)
_PLAIN = [Cell(steps=s, guidance=1.0) for s in _FEW]
_OWN = sorted(
    [
        *_PLAIN,
        *(Cell(steps=4, guidance=g) for g in (1.5, 2.0)),
        *(Cell(steps=4, guidance=1.0, seeds=s) for s in (1, 2)),
    ],
    key=lambda cell: (cell.steps, cell.guidance, cell.seeds),
)
_CLASSICAL = [Cell(steps=s, guidance=3.0) for s in _FEW] + _PLAIN[:3]
PAINTERS: dict[str, tuple[Sampler, list[Cell]]] = {
    TEACHER: ("ddim", [Cell(steps=50, guidance=3.0, seeds=s) for s in (0, 1)]),
    "ddim": ("ddim", _CLASSICAL),
    "dpmpp": ("dpmpp", _CLASSICAL),
    "released-lcm": ("lcm", _PLAIN),
    ADAPTER: ("lcm", _OWN),
    CHAMPION: ("lcm", _OWN),
}
_FLAW = {TEACHER: 0.0, "ddim": 1.5, "dpmpp": 1.1, "released-lcm": 0.6}

METRICS = tuple(
    MetricRecord(
        name=name,
        title=title,
        kind=kind,
        array=array,
        reference=reference,
        lower_is_better=unit == "distance",
        is_unbiased=kind != "fd",
        unit=unit,
    )
    for name, title, kind, array, reference, unit in [
        ("kid_shapes:real", "Kernel distance to real pictures", "kid", "f", "real", "distance"),
        ("fd_shapes:real", "Fréchet distance to real pictures", "fd", "f", "real", "distance"),
        ("kid_shapes:teacher", "Kernel distance to the teacher", "kid", "f", "teacher", "distance"),
        (
            "recall_shapes:real",
            "Share of real variety that is met",
            "recall",
            "f",
            "real",
            "share",
        ),
        ("diversity_shapes", "Variety within a prompt", "diversity", "f", None, "points"),
        ("clip_score", "CLIP score", "mean", "clip", None, "points"),
        ("attributes", "Pictures that show all they should", "mean", "attributes", None, "share"),
    ]
)

MADE: dict[str, Any] = {
    "objective": "lcm",
    "grid": {"points": 50, "skip": 20, "timesteps": list(range(19, 1000, 20))},
    "prediction_type": "epsilon",
    "scheduler": {"class": "LCMScheduler", "config": {"original_inference_steps": 50}},
    "recommended": {"steps": [2, 4, 8], "guidance": 1.0},
    "guidance": {"convention": "imagen", "low": 3.0, "high": 3.0},
    "lora": {"rank": 32, "alpha": 32, "targets": ["to_q"]},
    "base": {"model": "shapes", "revision": None, "family": "sd1", "sha256": "b" * 64, "files": {}},
    "data": {"shards_sha256": "d" * 64, "cache_sha256": "e" * 64, "samples": 7045},
    "step": 200,
    "params": {"steps": 300, "batch": 64, "learning_rate": 1e-3, "seed": 0, "loss": "huber"},
    "hardware": {"device": "cpu", "precision": "fp32", "threads": 1},
    "versions": {"torch": "2.9", "diffusers": "0.40", "peft": "0.20"},
}

Make = Callable[..., Path]


@pytest.fixture(scope="session")
def make_artifacts(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Return a function that makes a folder of artifacts: see `Case`."""
    return lambda **case: _make(tmp_path_factory.mktemp("project") / "artifacts", **case)


@pytest.fixture(scope="session")
def artifacts(make_artifacts: Make) -> Path:
    """A better adapter than the champion."""
    return make_artifacts()


@pytest.fixture(scope="session")
def worse(make_artifacts: Make) -> Path:
    """A worse adapter than the champion."""
    return make_artifacts(adapter=0.7, champion=0.4)


@pytest.fixture(scope="session")
def first(make_artifacts: Make) -> Path:
    """An adapter where there is no champion."""
    return make_artifacts(champion=None)


@pytest.fixture(scope="session")
def write_report() -> Callable[..., Path]:
    """Return a function that reports a folder of artifacts, and returns the report's folder."""

    def write(artifacts: Path, out: Path) -> Path:
        sources = Sources(
            artifacts / "scores" / "scores.json",
            artifacts / "decision.json",
            artifacts / "latency.json",
            artifacts / "images",
            artifacts / "features",
            artifacts / "adapter",
            artifacts / "champion",
            artifacts / "training",
            artifacts / "selection" / "selection.json",
        )
        report(Report(title="A <small> test", rows=3, worst=6), sources, out)
        return out

    return write


@pytest.fixture(scope="session")
def reports(
    artifacts: Path, worse: Path, first: Path, write_report: Callable[..., Path]
) -> dict[str, Path]:
    """The reports of three cases, by their names."""
    cases = {"better": artifacts, "worse": worse, "first": first}
    return {name: write_report(folder, folder.parent / "report") for name, folder in cases.items()}


def _make(folder: Path, adapter: float = 0.35, champion: float | None = 0.6) -> Path:
    flaws = _FLAW | {ADAPTER: adapter} | ({} if champion is None else {CHAMPION: champion})
    scenes = draw_scenes(4, range(N))
    clean, captions = render(scenes, 32), tuple(scene.caption for scene in scenes)
    for painter, (sampler, cells) in PAINTERS.items():
        cells = cells if painter in flaws else []
        for cell in cells:
            _write_cell(folder, painter, sampler, cell, flaws[painter], clean, captions)
        painted = Painted(captions=captions, cells=tuple(cell.name for cell in cells))
        write_record(folder / "images" / painter / "painted.json", painted)
    table = make_table(flaws, captions)
    write_record(folder / "scores" / "scores.json", table)
    write_record(folder / "latency.json", _latency())
    _write_training(folder)
    recipe = read_recipe(folder / "adapter")
    write_record(folder / "decision.json", make_decision(table, recipe.weights_sha256))
    brought = folder / "adapter" if table.champion else None
    write_champion(folder / "champion", table.champion, brought)
    return folder


def flaw_of(flaw: float, cell: Cell) -> float:
    """Return how bad a cell is: less with steps, best near its own guidance."""
    if not flaw:
        return 0.1
    power = 1.2 if cell.guidance > 2 else 0.8
    return 0.12 + flaw / cell.steps**power + 0.05 * (cell.guidance in {1.5, 2.0})


def make_table(flaws: dict[str, float], captions: tuple[str, ...]) -> Table:
    """Return a table as `score` would write it, of painters with these flaws."""
    cells, rows = [real_record()], [*_rows("real", 0.05, 0)]
    for painter, (sampler, own) in PAINTERS.items():
        for cell in own if painter in flaws else []:
            record = cell_record(painter, sampler, cell)
            cells.append(record)
            if not (painter == TEACHER and cell.seeds):
                rows += _rows(record.id, flaw_of(flaws[painter], cell), cell.seeds)
    return Table(
        protocol=_protocol(captions),
        champion=_champion() if CHAMPION in flaws else None,
        metrics=METRICS,
        cells=tuple(cells),
        rows=tuple(rows),
        pairs=tuple(_pairs(cells, rows)),
    )


def make_decision(table: Table, adapter_sha256: str) -> Decision:
    """Return what the gate says: a limit, a target and two guards at 4 steps."""
    gate = Gate(
        steps=4,
        limits={"attributes": 0.4},
        target={"kid_shapes:real": 0.1},
        guards={"attributes": 0.05, "clip_score": 1.0},
    )
    return decide(table, (gate,), adapter_sha256)


def _rows(cell: str, flaw: float, seeds: int) -> list[Row]:
    jitter = 0.02 * np.random.default_rng([len(cell), seeds, *cell.encode()]).normal(size=9)
    values = {
        "kid_shapes:real": 8 * flaw + jitter[0] - 0.6,
        "fd_shapes:real": 12 * flaw + 1.5 + jitter[1],
        "kid_shapes:teacher": 7 * flaw + jitter[2],
        "recall_shapes:real": 1 - flaw / 2 + jitter[3] / 9,
        "diversity_shapes": 24 - 6 * flaw + jitter[4],
        "clip_score": 34 - 8 * flaw + jitter[5],
        "attributes": 1 - flaw / 1.9 + jitter[6] / 9,
    }
    errors = {"recall_shapes:real": 0.01, "attributes": 0.02}
    rows = [
        Row(
            cell=cell,
            metric=name,
            value=float(value),
            bias=1.5 if name.startswith("fd") else 0.0,
            se=errors.get(name, 0.1),
            n=N,
        )
        for name, value in values.items()
    ]
    # A distance to the teacher says nothing of real pictures, and variety needs several noises.
    return [
        row
        for row in rows
        if not (cell == "real" and row.metric in {"kid_shapes:teacher", "diversity_shapes"})
    ]


def _pairs(cells: list[CellRecord], rows: list[Row]) -> list[Pair]:
    by = {(row.cell, row.metric): row for row in rows}
    first = [cell for cell in cells if not cell.seeds]
    pairs = []
    for a in (cell for cell in first if cell.painter == ADAPTER):
        for b in first:
            same = (a.steps, a.guidance) == (b.steps, b.guidance)
            against: Against = "champion" if b.painter == CHAMPION else "rival"
            fits = same if against == "champion" else a.nfe == b.nfe
            if not fits or b.painter in {ADAPTER, TEACHER, REAL}:
                continue
            for metric in METRICS:
                one, other = by[a.id, metric.name], by[b.id, metric.name]
                pairs.append(pair_of(metric, one, other, against, 2.5))
    return pairs


def _champion() -> Champion:
    return Champion(version="lcm-lora-shapes version 3", weights_sha256="c" * 64)


def _protocol(captions: tuple[str, ...]) -> Protocol:
    return Protocol(
        n=N,
        arrays={
            "f": NetworkRecord(name="shapes", sha256="f" * 64, preprocessing="32 px"),
            "clip": NetworkRecord(name="shapes", sha256="e" * 64),
            "attributes": NetworkRecord(name="judge", sha256="d" * 64),
        },
        captions_sha256=captions_sha256(captions),
        real_sha256="4" * 64,
        teacher_sha256="5" * 64,
        teacher="teacher/steps-50_guidance-3_seeds-1",
        level=0.95,
        code_sha256="6" * 64,
        sha256="7" * 64,
    )


def _latency() -> Latency:
    cells = {(c.steps, c.guidance > 1): c.nfe for _, own in PAINTERS.values() for c in own}
    return Latency(
        device="Some CPU",
        dtype="fp32",
        batch=8,
        resolution=32,
        repeats=5,
        denoiser_ms=2.5,
        decoder_ms=1.0,
        text_ms=0.5,
        cells=tuple(
            CellLatency(steps=steps, is_guided=guided, ms=1.5 + 2.5 * nfe, repeats=5)
            for (steps, guided), nfe in cells.items()
        ),
    )


def _write_training(folder: Path) -> None:
    adapter, training = folder / "adapter", folder / "training"
    for name in (WEIGHTS, KOHYA):
        write_tensors(adapter / name, {"a": torch.arange(99.0)})
    sums = {"weights_sha256": sha256(adapter / WEIGHTS), "kohya_sha256": sha256(adapter / KOHYA)}
    write_record(adapter / RECIPE, Recipe.model_validate(MADE | sums))
    origin = Origin(git_commit="c" * 40, git_dirty=False, code_sha256="a" * 64)
    write_record(training / ORIGIN, origin)
    rows = [
        CurveRow(step=s, loss=0.3 / (s + 3), grad_norm=1 + 1 / (s + 1), learning_rate=1e-3)
        for s in range(1, 101)
    ]
    rows[1] = rows[1].model_copy(update={"grad_norm": None})  # as while an fp16 scale settles
    write_bytes(training / CURVE, curve_lines(rows))
    values = {100: 0.5, 200: 0.71875, 300: 0.6875}
    record = Selection(
        metric="attributes",
        lower_is_better=False,
        steps=4,
        guidance=1.0,
        prompts=64,
        rows=tuple(JudgedCandidate(step=s, value=v, se=0.06) for s, v in values.items()),
        chosen=200,
    )
    write_record(folder / "selection" / "selection.json", record)


def _write_cell(
    folder: Path,
    painter: str,
    sampler: Sampler,
    cell: Cell,
    own: float,
    clean: NDArray[np.uint8],
    captions: tuple[str, ...],
) -> None:
    flaw = flaw_of(own, cell)
    record = write_pictures(folder / "images" / painter, sampler, cell, flaw, clean, captions)
    about = {"painter", "subject_sha256", "sampler", "steps", "guidance", "seeds", "nfe"}
    features = folder / "features" / painter / f"{cell.name}.safetensors"
    _write_features(features, flaw, record.model_dump(include=about))


def _write_features(path: Path, flaw: float, about: dict[str, Any]) -> None:
    rng = np.random.default_rng((about["seeds"], about["steps"]))
    arrays = {
        "f": rng.normal(size=(N, 6)),
        "clip": 34 - 8 * flaw + rng.normal(size=N),
        "attributes": rng.uniform(size=N) > flaw / 1.7,
    }
    write_tensors(path, {k: torch.from_numpy(v.astype(np.float32)) for k, v in arrays.items()})
    record = FeatureRecord(
        **about,
        captions_sha256="unused",
        images_sha256="1" * 64,
        arrays={name: NetworkRecord(name="shapes", sha256="f" * 64) for name in arrays},
        sha256=sha256(path),
    )
    write_record(path.with_suffix(".json"), record)
