"""One metric of a few pictures loads no more than it needs, and says when nothing comes of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

from lcm_lora.errors import UserError
from lcm_lora.evaluation.estimates import estimator_of
from lcm_lora.params.score import Score
from lcm_lora.shapes.scenes import Scene

CPU = torch.device("cpu")


@pytest.fixture
def files(tmp_path: Path, pictures: NDArray[np.uint8]) -> list[Path]:
    found = [tmp_path / f"{i}.png" for i in range(8)]
    for file, picture in zip(found, pictures, strict=False):
        Image.fromarray(picture).save(file)
    return found


@pytest.mark.parametrize(
    ("metric", "needed"),
    [
        ("attributes", "judge.safetensors"),
        ("clip_score", "clip"),
        ("kid_shapes:real", "clip"),
    ],
)
def test_only_what_a_metric_needs_is_loaded(
    judges: Path, scenes: list[Scene], files: list[Path], tmp_path: Path, metric: str, needed: str
) -> None:
    (tmp_path / needed).symlink_to(judges / needed)
    captions = [scene.caption for scene in scenes[:8]]
    estimate = estimator_of(metric, Score(), captions, files, CPU, tmp_path)(files)
    assert np.isfinite([estimate.value, estimate.se]).all()


def test_broken_weights_are_one_line(
    judges: Path, scenes: list[Scene], files: list[Path], tmp_path: Path
) -> None:
    broken = tmp_path / "judges"
    shutil.copytree(judges, broken)
    (weights,) = (broken / "clip").glob("*.safetensors")
    tensors = load_file(weights)
    save_file({name: tensor * float("nan") for name, tensor in tensors.items()}, weights)
    measure = estimator_of(
        "kid_shapes:real", Score(), [scene.caption for scene in scenes[:8]], files, CPU, broken
    )
    with pytest.raises(UserError, match=r"select\.metric: came to nan; check the weights"):
        measure(files)
