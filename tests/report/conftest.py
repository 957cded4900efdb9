"""A whole folder of artifacts, small, as the stages before the report write it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from lcm_lora.data.shards import encode_png, write_tar
from lcm_lora.evaluation.table import score
from lcm_lora.params import Cell, Score
from lcm_lora.shapes.scenes import draw_scenes, render

N, D = 24, 6

_FLAW = {"ddim": 1.5, "dpmpp": 1.1, "unipc": 0.9, "lcm": 0.35}
_CLASSICAL = [Cell(steps=s, guidance=3.0) for s in (1, 2, 4, 8)] + [
    Cell(steps=s, guidance=1.0) for s in (1, 2, 4)
]
CELLS = {
    "teacher": [Cell(steps=50, guidance=3.0), Cell(steps=50, guidance=3.0, seeds=1)],
    "lcm": [Cell(steps=s, guidance=1.0) for s in (1, 2, 4, 8)],
    "ddim": _CLASSICAL,
    "dpmpp": _CLASSICAL,
    "unipc": _CLASSICAL,
}
RECIPE: dict[str, Any] = {
    "objective": "lcm",
    "grid": {"points": 50, "skip": 20, "timesteps": list(range(19, 1000, 20))},
    "prediction_type": "epsilon",
    "scheduler": {"class": "LCMScheduler", "config": {"original_inference_steps": 50}},
    "recommended": {"steps": [2, 4, 8], "guidance": 1.0},
    "guidance": {"convention": "imagen", "low": 3.0, "high": 3.0},
    "lora": {"rank": 32, "alpha": 32, "targets": ["to_q"]},
    "base": {"model": "shapes", "revision": None, "kind": "sd", "sha256": "b" * 64},
    "data": {"shards_sha256": "d" * 64, "samples": 7045},
    "params": {"steps": 300, "batch": 64, "learning_rate": 1e-3, "seed": 0, "loss": "huber"},
    "hardware": {"device": "cpu", "precision": "fp32", "threads": 1},
    "git_commit": "c" * 40,
    "versions": {"torch": "2.9", "diffusers": "0.40", "peft": "0.20"},
}


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with images, features, scores, adapter and training."""
    folder = tmp_path_factory.mktemp("project") / "artifacts"
    scenes = draw_scenes(4, range(N))
    clean, captions = render(scenes, 32), [scene.caption for scene in scenes]
    for sampler, cells in CELLS.items():
        for cell in cells:
            _write_cell(folder, sampler, cell, clean)
        (folder / "images" / sampler / "captions.json").write_text(json.dumps(captions))
    _write_real(folder)
    score(Score(resamples=40), folder / "features", folder / "scores.json")
    (folder / "adapter").mkdir()
    (folder / "adapter" / "recipe.json").write_text(json.dumps(RECIPE))
    (folder / "training").mkdir()
    rows = [
        {"step": s, "loss": 0.3 / (s + 3), "grad_norm": 1 + 1 / (s + 1), "learning_rate": 1e-3}
        for s in range(1, 101)
    ]
    (folder / "training" / "curve.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return folder


def _flaw(sampler: str, cell: Cell) -> float:
    return (
        0.1
        if sampler == "teacher"
        else 0.12 + _FLAW[sampler] / cell.steps ** (1.2 if cell.guidance > 1 else 0.8)
    )


def _write_cell(folder: Path, sampler: str, cell: Cell, clean: NDArray[np.uint8]) -> None:
    flaw = _flaw(sampler, cell)
    noise = np.random.default_rng(cell.seeds).normal(size=clean.shape)
    pictures = np.clip(clean + 90 * flaw * noise, 0, 255).astype(np.uint8)
    members = ((f"{i:08d}.png", encode_png(picture)) for i, picture in enumerate(pictures))
    write_tar(folder / "images" / sampler / f"{cell.name}.tar", members)
    rng = np.random.default_rng((cell.seeds, cell.steps, len(sampler)))
    prompts = np.random.default_rng(0).normal(size=(N, D))
    _write_features(
        folder / "features" / sampler / f"{cell.name}.safetensors",
        prompts * (1 + flaw) + flaw * rng.normal(size=(N, D)),
        90 / (1 + flaw) + rng.normal(size=N),
        rng.uniform(size=N) > flaw / 1.7,
        cell.model_dump() | {"sampler": sampler, "nfe": cell.nfe, "ms_per_image": 2.5 * cell.nfe},
    )


def _write_real(folder: Path) -> None:
    prompts = np.random.default_rng(0).normal(size=(N, D))
    nothing = {"sampler": "real", "steps": 0, "guidance": 0.0, "nfe": 0, "ms_per_image": None}
    for name, features in (
        ("real", prompts),
        ("reference", np.random.default_rng(9).normal(size=(N, D))),
    ):
        path = folder / "features" / "real" / f"{name}.safetensors"
        _write_features(path, features, np.full(N, 92.0), np.ones(N), nothing | {"seeds": 0})


def _write_features(
    path: Path,
    features: NDArray[Any],
    clip: NDArray[Any],
    attributes: NDArray[Any],
    record: dict[str, Any],
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    record |= {
        "captions_sha256": "captions",
        "images_sha256": "images",
        "network": {"name": "shapes", "sha256": "f" * 64, "preprocessing": "32 px"},
        "clip": {"name": "shapes", "sha256": "f" * 64},
    }
    tensors = {
        "features": features.astype(np.float32),
        "clip": clip.astype(np.float32),
        "attributes": attributes.astype(np.uint8),
    }
    save_file(tensors, path, metadata={"record": json.dumps(record)})
