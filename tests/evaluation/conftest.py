"""Untrained judges and a small set of shards and image sets, as the stages write them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lcm_lora.data.prepare import prepare
from lcm_lora.data.shards import encode_png, write_tar
from lcm_lora.params import Prepare, ShapesSource
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
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return prepared shards of the shapes world."""
    folder = tmp_path_factory.mktemp("data") / "shards"
    prepare(Prepare(source=ShapesSource(count=120, seed=3), held_out=0.3), folder)
    return folder


@pytest.fixture(scope="session")
def scenes() -> list[Scene]:
    return draw_scenes(11, range(24))


@pytest.fixture(scope="session")
def pictures(scenes: list[Scene]) -> NDArray[np.uint8]:
    return render(scenes, 32)


ImageSets = Callable[..., Path]


@pytest.fixture
def image_sets(tmp_path: Path, scenes: list[Scene], pictures: NDArray[np.uint8]) -> ImageSets:
    """Return a function that writes a sampler's folder of one image set."""

    def write(sampler: str = "lcm", keep: int = 24, **record: Any) -> Path:
        folder = tmp_path / "images" / sampler
        name = "steps-4_guidance-1"
        members = ((f"{i:08d}.png", encode_png(p)) for i, p in enumerate(pictures[:keep]))
        write_tar(folder / f"{name}.tar", members)
        about = {"sampler": sampler, "steps": 4, "guidance": 1.0, "nfe": 4, "seeds": 0}
        (folder / f"{name}.json").write_text(json.dumps(about | record))
        (folder / "captions.json").write_text(json.dumps([s.caption for s in scenes]))
        (folder / "latency.json").write_text(json.dumps({name: {"ms_per_image": 7.5}}))
        return folder

    return write
