"""What scoring takes, against the straightforward ways.

Two thousand pictures of 22 cells with 2,048 features each, two references: the whole table with all
intervals; one Fréchet distance against the matrix root of clean-fid; and the errors of the Fréchet
distances against a bootstrap of 400 resamples, extrapolated from three.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lcm_lora.evaluation.cells import Compared
from lcm_lora.evaluation.frechet import frechet_distance
from lcm_lora.evaluation.table import score
from lcm_lora.files import sha256, write_tensors
from lcm_lora.params.generate import ADAPTER, CHAMPION, TEACHER, Cell, Generate
from lcm_lora.params.score import Score
from lcm_lora.records import write_record
from lcm_lora.seeing.set_records import FeatureRecord

PICTURES, WIDTH, RESAMPLES, TRIED = 2000, 2048, 400, 3
SOLVERS = ("ddim", "dpmpp", "unipc")
ARRAYS = ("features/large", "clip")


def main() -> None:
    """Print seconds and ratios."""
    with tempfile.TemporaryDirectory() as folder:
        features = Path(folder) / "features"
        sets = write_features(features)
        networks = {"large": {"kind": "torchscript", "path": "large.pt", "pixels": 64}}
        params = Score.model_validate({"networks": networks, "attributes": False})
        table = seconds(
            lambda: score(
                params, Compared.of(painters(), features), None, Path(folder) / "scores" / "it.json"
            )
        )
        print(f"{sets} cells, {PICTURES} pictures, {WIDTH} features: {table:.0f} s", flush=True)
    a, b = (rows(seed, 1.0) for seed in (1, 2))
    distance = seconds(lambda: frechet_distance(a, b))
    root = seconds(lambda: clean_fid(a, b))
    print(f"Fréchet distance: {distance:.2f} s; clean-fid {root / distance:.0f} times that")
    tried = seconds(lambda: resampled(a, b))
    bootstrap = 2 * sets * tried / TRIED * RESAMPLES
    print(
        f"errors of {2 * sets} Fréchet distances by bootstrap alone: {bootstrap / table:.0f} times"
    )


def seconds(work: Callable[[], Any]) -> float:
    """Return how long `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def clean_fid(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return what clean-fid computes, by the root of a matrix."""
    from cleanfid import fid

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return float(fid.fid_from_feats(a, b))


def resampled(a: NDArray[np.float64], b: NDArray[np.float64]) -> list[float]:
    """Return a few resamples of the distance."""
    rng = np.random.default_rng(0)
    drawn = (rng.integers(0, len(a), len(a)) for _ in range(TRIED))
    return [frechet_distance(a[rows], b) for rows in drawn]


def rows(seed: int, scale: float) -> NDArray[np.float64]:
    """Return features whose modes fall off as those of real networks do."""
    modes = np.arange(1, WIDTH + 1) ** -0.5
    drawn = np.random.default_rng(seed).normal(size=(PICTURES, WIDTH))
    return np.asarray(scale * drawn * modes + 0.4)


def painters() -> Generate:
    """Return who paints: each what an adapter paints, and the teacher twice."""
    cells = [Cell(steps=steps, guidance=1) for steps in (1, 2, 4, 8)]
    ours = {"sampler": "lcm", "cells": cells}
    theirs = {name: {"sampler": "ddim", "cells": cells} for name in SOLVERS}
    twice = [Cell(steps=50, guidance=3, seeds=seeds) for seeds in (0, 1)]
    teacher = {TEACHER: {"sampler": "ddim", "cells": twice}}
    return Generate.model_validate({"adapter": ours, "painters": teacher | theirs})


def write_features(folder: Path) -> int:
    """Write the features of all cells and of both real sets; return the number of cells."""
    none = {"steps": 0, "guidance": 0.0, "seeds": 0, "nfe": 0}
    for number, name in enumerate(("real", "reference")):
        write(folder / "real" / name, rows(100 + number, 1.0), captions_sha256=name, **none)
    for number, (painter, cell) in enumerate(cells_of(painters())):
        about = cell.model_dump() | {"nfe": cell.nfe, "captions_sha256": "real"}
        write(folder / painter / cell.name, rows(number, 1 + 0.1 / cell.steps), **about)
    return number + 1


def cells_of(generate: Generate) -> Iterator[tuple[str, Cell]]:
    """Yield all cells."""
    for name in (*generate.painters, ADAPTER, CHAMPION):
        yield from ((name, cell) for cell in generate.painter(name).cells)


def write(where: Path, features: NDArray[np.float64], **about: Any) -> None:
    """Write one set as `features` does."""
    where.parent.mkdir(parents=True, exist_ok=True)
    path = where.with_name(f"{where.name}.safetensors")
    arrays = (torch.from_numpy(features.astype(np.float32)), torch.full((PICTURES,), 30.0))
    write_tensors(path, dict(zip(ARRAYS, arrays, strict=True)), {})
    record = {
        "painter": where.parent.name,
        "subject_sha256": None,
        "sampler": None,
        "images_sha256": where.name,
        "arrays": {name: {"name": name, "sha256": "a"} for name in ARRAYS},
        "sha256": sha256(path),
    }
    beside = where.with_name(f"{where.name}.json")
    write_record(beside, FeatureRecord.model_validate(record | about))


if __name__ == "__main__":
    main()
