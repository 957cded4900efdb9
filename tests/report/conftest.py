"""A whole folder of artifacts, small, as the stages before the report write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from lcm_lora.data.pictures import encoded
from lcm_lora.data.shards import write_tar
from lcm_lora.evaluation.image_sets import CAPTIONS, LATENCY, captions_sha256
from lcm_lora.evaluation.selection import JudgedCandidate, Selection
from lcm_lora.evaluation.set_records import (
    Captions,
    FeatureRecord,
    Latency,
    SetLatency,
    SetRecord,
    SetScheduler,
)
from lcm_lora.evaluation.table import score
from lcm_lora.files import sha256, write_bytes, write_tensors
from lcm_lora.params.generate import Cell, Sampler
from lcm_lora.params.score import Score
from lcm_lora.recipe import KOHYA, RECIPE, WEIGHTS, Recipe
from lcm_lora.records import write_record
from lcm_lora.shapes.scenes import draw_scenes, render
from lcm_lora.training.curve import CURVE, CurveRow, curve_lines
from lcm_lora.training.origin import ORIGIN, Origin

N, D = 24, 6

_FLAW = {"ddim": 1.5, "dpmpp": 1.1, "unipc": 0.9, "lcm": 0.35}
_CLASSICAL = [Cell(steps=s, guidance=3.0) for s in (1, 2, 4, 8)] + [
    Cell(steps=s, guidance=1.0) for s in (1, 2, 4)
]
CELLS: dict[Sampler, list[Cell]] = {
    "teacher": [Cell(steps=50, guidance=3.0), Cell(steps=50, guidance=3.0, seeds=1)],
    "lcm": [Cell(steps=s, guidance=1.0) for s in (1, 2, 4, 8)],
    "ddim": _CLASSICAL,
    "dpmpp": _CLASSICAL,
    "unipc": _CLASSICAL,
}
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


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with images, features, scores, adapter and training."""
    folder = tmp_path_factory.mktemp("project") / "artifacts"
    scenes = draw_scenes(4, range(N))
    clean, captions = render(scenes, 32), tuple(scene.caption for scene in scenes)
    for sampler, cells in CELLS.items():
        for cell in cells:
            _write_cell(folder, sampler, cell, clean, captions)
        images = folder / "images" / sampler
        write_record(images / CAPTIONS, Captions(captions=captions))
        times = {cell.name: _latency(cell) for cell in cells}
        write_record(images / LATENCY, Latency(sets=times))
    _write_real(folder, captions)
    score(Score(resamples=40), folder / "features", folder / "scores" / "scores.json")
    _write_training(folder)
    return folder


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
    _write_selection(folder)


def _write_selection(folder: Path) -> None:
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


def _latency(cell: Cell) -> SetLatency:
    return SetLatency(ms_per_image=2.5 * cell.nfe, device="cpu", batch=8)


def _flaw(sampler: str, cell: Cell) -> float:
    return (
        0.1
        if sampler == "teacher"
        else 0.12 + _FLAW[sampler] / cell.steps ** (1.2 if cell.guidance > 1 else 0.8)
    )


def _write_cell(
    folder: Path, sampler: Sampler, cell: Cell, clean: NDArray[np.uint8], captions: tuple[str, ...]
) -> None:
    flaw = _flaw(sampler, cell)
    noise = np.random.default_rng(cell.seeds).normal(size=clean.shape)
    pictures = np.clip(clean + 90 * flaw * noise, 0, 255).astype(np.uint8)
    pngs = (encoded(Image.fromarray(picture), None) for picture in pictures)
    tar = folder / "images" / sampler / f"{cell.name}.tar"
    write_tar(tar, ((f"{i:08d}.png", png) for i, png in enumerate(pngs)))
    about: dict[str, Any] = cell.model_dump() | {"sampler": sampler, "nfe": cell.nfe}
    record = SetRecord(
        **about,
        count=N,
        scheduler=SetScheduler(**{"class": "LCMScheduler"}, timesteps=(999,)),
        prompts_sha256=captions_sha256(captions),
        height=32,
        width=32,
        tar_sha256=sha256(tar),
    )
    write_record(tar.with_suffix(".json"), record)
    rng = np.random.default_rng((cell.seeds, cell.steps, len(sampler)))
    prompts = np.random.default_rng(0).normal(size=(N, D))
    _write_features(
        folder / "features" / sampler / f"{cell.name}.safetensors",
        prompts * (1 + flaw) + flaw * rng.normal(size=(N, D)),
        90 / (1 + flaw) + rng.normal(size=N),
        rng.uniform(size=N) > flaw / 1.7,
        about | {"ms_per_image": 2.5 * cell.nfe, "captions_sha256": captions_sha256(captions)},
    )


def _write_real(folder: Path, captions: tuple[str, ...]) -> None:
    nothing = {"sampler": "real", "steps": 0, "guidance": 0.0, "nfe": 0, "ms_per_image": None}
    for name, seed, digest in (("real", 0, captions_sha256(captions)), ("reference", 9, "others")):
        path = folder / "features" / "real" / f"{name}.safetensors"
        features = np.random.default_rng(seed).normal(size=(N, D))
        about = nothing | {"seeds": 0, "captions_sha256": digest}
        _write_features(path, features, np.full(N, 92.0), np.ones(N), about)


def _write_features(
    path: Path,
    features: NDArray[Any],
    clip: NDArray[Any],
    attributes: NDArray[Any],
    record: dict[str, Any],
) -> None:
    record |= {
        "images_sha256": "images",
        "network": {"name": "shapes", "sha256": "f" * 64, "preprocessing": "32 px"},
        "clip": {"name": "shapes", "sha256": "f" * 64},
    }
    tensors = {
        "features": features.astype(np.float32),
        "clip": clip.astype(np.float32),
        "attributes": attributes.astype(np.uint8),
    }
    write_tensors(path, {name: torch.from_numpy(values) for name, values in tensors.items()})
    found = FeatureRecord.model_validate(record | {"sha256": sha256(path)})
    write_record(path.with_suffix(".json"), found)
