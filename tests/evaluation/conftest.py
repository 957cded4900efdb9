"""Untrained judges and small image sets, painted and real, as the stages write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from making import make_data
from numpy.typing import NDArray

from lcm_lora.data.pictures import encoded
from lcm_lora.data.shards import write_tar
from lcm_lora.evaluation.image_sets import CAPTIONS, LATENCY, captions_sha256
from lcm_lora.evaluation.set_records import (
    Captions,
    Latency,
    SetLatency,
    SetRecord,
    SetScheduler,
)
from lcm_lora.files import sha256
from lcm_lora.params.sources import ShapesSource
from lcm_lora.records import write_record
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
    """Return a function that writes a sampler's folder of one image set."""
    from PIL import Image

    def write(sampler: str = "lcm", keep: int = 24, captions: tuple[str, ...] = ()) -> Path:
        folder = tmp_path / "images" / sampler
        captions = captions or tuple(scene.caption for scene in scenes)
        tar = folder / "steps-4_guidance-1.tar"
        pngs = (encoded(Image.fromarray(picture), None) for picture in pictures[:keep])
        write_tar(tar, ((f"{i:08d}.png", png) for i, png in enumerate(pngs)))
        write_record(tar.with_suffix(".json"), set_record(tar, sampler, captions))
        write_record(folder / CAPTIONS, Captions(captions=captions))
        time = SetLatency(ms_per_image=7.5, device="cpu", batch=8)
        write_record(folder / LATENCY, Latency(sets={tar.stem: time}))
        return folder

    return write


def set_record(tar: Path, sampler: str, captions: tuple[str, ...]) -> SetRecord:
    about: dict[str, Any] = {"sampler": sampler, "steps": 4, "guidance": 1.0, "nfe": 4, "seeds": 0}
    return SetRecord(
        **about,
        count=len(captions),
        scheduler=SetScheduler(**{"class": "LCMScheduler"}, timesteps=(999, 759, 499, 259)),
        prompts_sha256=captions_sha256(captions),
        height=32,
        width=32,
        tar_sha256=sha256(tar),
    )
