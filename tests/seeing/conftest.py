"""Untrained judges and small image sets, painted and real, as the stages write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from making import make_data
from numpy.typing import NDArray
from seen import Looking, write_set

from lcm_lora.data.pictures import encoded
from lcm_lora.params.sources import ShapesSource
from lcm_lora.shapes import architecture
from lcm_lora.shapes.judge import AttributeJudge
from lcm_lora.shapes.scenes import Scene, draw_scenes, render
from lcm_lora.shapes.teacher import write_clip, write_judge


@pytest.fixture(scope="session")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of the shapes world's judges, untrained."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    words = architecture.tokenizer(scene.caption for scene in draw_scenes(1, range(200)))
    write_clip(folder, architecture.clip(words), words)
    write_judge(folder, AttributeJudge())
    return folder / "judges"


@pytest.fixture(scope="session")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an evaluation set of twice eight pictures of the shapes world."""
    folder = tmp_path_factory.mktemp("project")
    source = ShapesSource(count=120, seed=3)
    return make_data(folder, source, prompts=8, held_out=0.3) / "data" / "evaluation"


@pytest.fixture(scope="session")
def scenes() -> list[Scene]:
    return draw_scenes(11, range(24))


@pytest.fixture(scope="session")
def pictures(scenes: list[Scene]) -> NDArray[np.uint8]:
    return render(scenes, 32)


ImageSets = Callable[..., Path]


@pytest.fixture
def image_sets(tmp_path: Path, scenes: list[Scene], pictures: NDArray[np.uint8]) -> ImageSets:
    """Return a function that writes a painter's folder of one image set."""
    from PIL import Image

    def write(
        painter: str = "adapter",
        keep: int = 24,
        captions: tuple[str, ...] = (),
        pixels: NDArray[np.uint8] = pictures,
    ) -> Path:
        captions = captions or tuple(scene.caption for scene in scenes)
        pngs = [encoded(Image.fromarray(picture), None) for picture in pixels[:keep]]
        members = {f"{i:08d}.png": png for i, png in enumerate(pngs)}
        return write_set(tmp_path / "images" / painter, painter, captions, members)

    return write


@pytest.fixture
def looking(tmp_path: Path, judges: Path) -> Looking:
    return Looking(tmp_path / "looking", judges)
