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
from lcm_lora.files import sha256
from lcm_lora.hashes import Hashes
from lcm_lora.params.score import Score
from lcm_lora.params.sources import ShapesSource
from lcm_lora.records import write_record
from lcm_lora.seeing.image_sets import PAINTED, captions_sha256, generated_sets
from lcm_lora.seeing.network_files import find_networks
from lcm_lora.seeing.set_records import Painted, SetRecord, SetScheduler
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

CELL = "steps-4_guidance-1"


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


def write_set(
    folder: Path, painter: str, captions: tuple[str, ...], members: dict[str, bytes]
) -> Path:
    """Write an image set of these members, whatever they are, and the records beside it."""
    tar = folder / f"{CELL}.tar"
    write_tar(tar, members.items())
    write_record(tar.with_suffix(".json"), set_record(tar, painter, captions))
    write_record(folder / PAINTED, Painted(captions=captions, cells=(CELL,)))
    return folder


def set_record(tar: Path, painter: str, captions: tuple[str, ...]) -> SetRecord:
    about: dict[str, Any] = {"painter": painter, "subject_sha256": "5" * 64, "sampler": "lcm"}
    return SetRecord(
        **about,
        steps=4,
        guidance=1.0,
        nfe=4,
        seeds=0,
        count=len(captions),
        scheduler=SetScheduler(**{"class": "LCMScheduler"}, timesteps=(999, 759, 499, 259)),
        prompts_sha256=captions_sha256(captions),
        height=32,
        width=32,
        tar_sha256=sha256(tar),
    )


class Looking:
    """Runs the stage's work in a folder, with a store of its own that runs share."""

    def __init__(self, folder: Path, judges: Path) -> None:
        self.folder, self.judges = folder, judges

    def job(self, **score: Any) -> Any:
        from lcm_lora.seeing.features import Job

        wanted = Score(**{"networks": {"shapes": {"kind": "shapes"}}} | score)
        hashes = Hashes(self.folder / "hashes.sqlite")
        networks = find_networks(wanted, hashes, self.judges)
        return Job(wanted, networks, torch.device("cpu"), self.folder / "store", hashes)

    def at(self, images: Path, painter: str = "adapter", out: str = "out", **score: Any) -> Path:
        """Look at a painter's sets; return the file of the first."""
        from lcm_lora.seeing.features import features

        sets = generated_sets(images, painter)
        features(self.job(**score), painter, sets, self.folder / out)
        return next(iter(sorted((self.folder / out).glob("*.safetensors"))))


@pytest.fixture
def looking(tmp_path: Path, judges: Path) -> Looking:
    return Looking(tmp_path / "looking", judges)
