"""A small transfer evaluation, as the stages before its page write it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from browsers import CHROMIUM
from made_sets import cell_record, pair_of, real_record, write_pictures
from numpy.typing import NDArray
from recipes import recipe_of

from lcm_lora.adapter_files import KOHYA, RECIPE, WEIGHTS
from lcm_lora.evaluation.names import metrics_of
from lcm_lora.evaluation.scores import (
    Against,
    CellRecord,
    Pair,
    Protocol,
    Row,
    Table,
)
from lcm_lora.families.found import BaseInventory
from lcm_lora.families.structure import Structure
from lcm_lora.files import sha256, write_json, write_tensors
from lcm_lora.inventory.painters import AdapterFound, PainterInventory
from lcm_lora.mapping.page import transfer_report
from lcm_lora.mapping.subjects import Places
from lcm_lora.params.generate import ADAPTER, TEACHER, Cell, Sampling
from lcm_lora.params.report import Report
from lcm_lora.params.score import Network, Score
from lcm_lora.params.transfer import Map, Mix, Subject, Transfer
from lcm_lora.records import write_record
from lcm_lora.seeing.image_sets import captions_sha256
from lcm_lora.seeing.set_records import NetworkRecord, Painted
from lcm_lora.shapes.scenes import draw_scenes, render

collect_ignore = [] if CHROMIUM else ["test_mapping_browser.py"]

N = 12
INK = "styles/ink.safetensors"
_FEW = (1, 2, 4, 8)
_PLAIN = tuple(Cell(steps=steps, guidance=1.0) for steps in _FEW)
_GUIDED = tuple(Cell(steps=steps, guidance=3.0) for steps in _FEW)
_TEACHER = tuple(Cell(steps=50, guidance=3.0, seeds=seeds) for seeds in (0, 1))

PARAMS = Transfer(
    prompts=N,
    painters={
        TEACHER: Sampling(sampler="ddim", cells=_TEACHER),
        "ddim": Sampling(sampler="ddim", cells=(*_GUIDED, *_PLAIN[:3])),
        "dpmpp": Sampling(sampler="dpmpp", cells=(*_GUIDED, *_PLAIN[:3])),
    },
    adapter=Sampling(sampler="lcm", cells=_PLAIN),
    map=Map(
        cell=Cell(steps=4, guidance=1.0),
        acceleration=(0.0, 0.5, 0.75, 1.0, 1.25),
        style=(0.0, 0.5, 1.0, 1.5),
    ),
    subjects={
        "plain": Subject(looks=()),
        "dusk": Subject(base="shapes-dusk", looks=("dusk",)),
        "ink": Subject(adapters={INK: 1.0}, looks=("ink",)),
        "dusk-ink": Subject(base="shapes-dusk", adapters={INK: 0.8}, looks=("ink", "dusk")),
    },
)

FLAWS = {"plain": 1.6, "dusk": 0.35, "ink": 0.4, "dusk-ink": 1.6}
"""Of the adapter on each subject; solvers have 1.3 and 1.1."""

METRICS = metrics_of(Score(networks={"shapes": Network(kind="shapes")}), False, ("ink",))

Write = Callable[..., Path]


@pytest.fixture(scope="session")
def params() -> Transfer:
    """Who was tried: a fine-tune, a style, and both; and the base itself, for comparison."""
    return PARAMS


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the page is made from; the adapter fails on both at once."""
    root = tmp_path_factory.mktemp("project")
    scenes = draw_scenes(4, range(N))
    clean, captions = render(scenes, 32), tuple(scene.caption for scene in scenes)
    for name, flaw in FLAWS.items():
        _write_subject(root, name, flaw, clean, captions)
    for name in (WEIGHTS, KOHYA):
        write_tensors(root / "adapter" / name, {"a": torch.arange(9.0)})
    write_json(root / "adapter" / RECIPE, recipe_of(sha256(root / "adapter" / WEIGHTS)))
    return root


@pytest.fixture(scope="session")
def write_page() -> Write:
    """Return a function that draws the page of a folder, and returns the page's."""

    def write(root: Path, out: Path, params: Transfer = PARAMS) -> Path:
        places = Places(root / "inventory", root / "images", root / "scores")
        shown = Report(title="A <small> test", rows=3)
        transfer_report(params, shown, 1000, places, root / "adapter", out)
        return out

    return write


@pytest.fixture(scope="session")
def made(project: Path, write_page: Write) -> Path:
    """The page's folder."""
    return write_page(project, project / "report")


def painters_of(name: str) -> dict[str, Sampling]:
    """Return all who paint a subject, with the map's points."""
    assert PARAMS.map is not None
    mixes = {m.name: Sampling(sampler="lcm", cells=(PARAMS.map.cell,)) for m in PARAMS.mixes(name)}
    return {**PARAMS.painters, ADAPTER: PARAMS.adapter, **mixes}


def flaw_of(painter: str, cell: Cell, own: float) -> float:
    """Return how bad a cell is: less with steps, and near weights of three quarters and one."""
    if painter == TEACHER:
        return 0.1
    if painter.startswith("mix-"):
        mix = Mix(*(int(part) / 100 for part in painter.split("-")[1:]))
        off = 1.6 * (mix.acceleration - 0.8) ** 2 + 0.8 * (mix.style - 1.0) ** 2
        return flaw_of(ADAPTER, cell, own) + off
    power = 1.2 if cell.guidance > 2 else 0.7
    flaw = {ADAPTER: own, "ddim": 1.3, "dpmpp": 1.1}[painter]
    return 0.12 + flaw / cell.steps**power


def make_table(name: str, own: float, captions: tuple[str, ...]) -> Table:
    """Return a table as `transfer-score` would write it."""
    cells = [real_record()]
    for painter, sampling in painters_of(name).items():
        cells += [cell_record(painter, sampling.sampler, cell) for cell in sampling.cells]
    rows = list(_rows("real", 0.05))
    for record in cells[1:]:
        if not (record.painter == TEACHER and record.seeds):
            rows += _rows(record.id, flaw_of(record.painter, _cell(record), own))
    return Table(
        protocol=_protocol(captions),
        champion=None,
        metrics=METRICS,
        cells=tuple(cells),
        rows=tuple(rows),
        pairs=tuple(_pairs(cells, rows)),
    )


def _cell(record: CellRecord) -> Cell:
    return Cell(steps=record.steps, guidance=record.guidance, seeds=record.seeds)


def _rows(cell: str, flaw: float) -> Iterator[Row]:
    jitter = 0.01 * np.random.default_rng(list(cell.encode())).normal(size=len(METRICS))
    right = float(np.clip(1 - flaw / 1.5, 0, 1))
    values = {
        "kid_shapes:real": 8 * flaw + 3,
        "fd_shapes:real": 12 * flaw + 5,
        "precision_shapes:real": right,
        "recall_shapes:real": right,
        "kid_shapes:teacher": 7 * flaw - 0.68,
        "fd_shapes:teacher": 12 * flaw + 1.5,
        "clip_score": 34 - 8 * flaw,
        "attributes": right,
        "look": right**0.5,
        "both": right**1.4,
    }
    for i, metric in enumerate(METRICS):
        if cell == "real" and metric.reference == "teacher":
            continue
        share = metric.unit == "share"
        yield Row(
            cell=cell,
            metric=metric.name,
            value=float(values[metric.name] + (0.0 if share else jitter[i])),
            bias=1.5 if metric.kind == "fd" else 0.0,
            se=0.02 if share else 0.1,
            n=N,
        )


def _pairs(cells: list[CellRecord], rows: list[Row]) -> Iterator[Pair]:
    by = {(row.cell, row.metric): row for row in rows}
    for a in (cell for cell in cells if cell.painter == ADAPTER):
        for b in cells:
            is_rival = b.painter in {"ddim", "dpmpp"} and b.nfe == a.nfe
            if is_rival or (b.painter, b.seeds) == (TEACHER, 0):
                for metric in METRICS:
                    against: Against = "rival" if is_rival else "teacher"
                    yield pair_of(metric, by[a.id, metric.name], by[b.id, metric.name], against, 3)
    mixes = [cell.id for cell in cells if cell.painter.startswith("mix-")]
    whole = next(mix for mix in mixes if mix.startswith("mix-100-100/"))
    for mix in mixes:
        for metric in METRICS:
            if mix != whole:
                yield pair_of(metric, by[mix, metric.name], by[whole, metric.name], "map", 3)


def _protocol(captions: tuple[str, ...]) -> Protocol:
    return Protocol(
        n=N,
        arrays={
            "features/shapes": NetworkRecord(name="shapes", sha256="f" * 64),
            "look": NetworkRecord(name="looks judge", sha256="e" * 64),
        },
        captions_sha256=captions_sha256(captions),
        real_sha256="4" * 64,
        teacher_sha256="5" * 64,
        teacher="teacher/steps-50_guidance-3_seeds-1",
        level=0.95,
        code_sha256="6" * 64,
        sha256="7" * 64,
    )


def _write_subject(
    root: Path, name: str, own: float, clean: NDArray[np.uint8], captions: tuple[str, ...]
) -> None:
    for painter, sampling in painters_of(name).items():
        folder = root / "images" / name / painter
        for cell in sampling.cells:
            write_pictures(
                folder, sampling.sampler, cell, flaw_of(painter, cell, own), clean, captions
            )
        names = tuple(cell.name for cell in sampling.cells)
        write_record(folder / "painted.json", Painted(captions=captions, cells=names))
    write_record(root / "scores" / name / "scores.json", make_table(name, own, captions))
    write_record(root / "inventory" / f"{name}.json", _found(PARAMS.subjects[name]))


def _found(subject: Subject) -> PainterInventory:
    structure = Structure(
        family="sd1",
        prediction_type="epsilon",
        zero_snr=False,
        training_steps=1000,
        downsampling=8,
        latent_channels=4,
        unet_channels=4,
    )
    base = BaseInventory(
        model="shapes-dusk",
        commit=None,
        files={},
        sha256="d" * 64,
        structure=structure,
        config=None,
        vae=None,
        vae_commit=None,
    )
    adapters = tuple(
        AdapterFound(name=adapter, commit=None, sha256="a" * 64, weight=weight)
        for adapter, weight in subject.adapters.items()
    )
    return PainterInventory(base=base if subject.base else None, adapters=adapters)
