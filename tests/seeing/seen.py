"""Image sets as painting leaves them, and looking at them, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lcm_lora.data.shards import write_tar
from lcm_lora.files import sha256
from lcm_lora.hashes import Hashes
from lcm_lora.params.score import Looks, Score
from lcm_lora.pieces import Pieces
from lcm_lora.records import write_record
from lcm_lora.seeing.image_sets import PAINTED, captions_sha256, generated_sets
from lcm_lora.seeing.network_files import find_networks
from lcm_lora.seeing.set_records import Painted, SetRecord, SetScheduler
from lcm_lora.store import Store

CELL = "steps-4_guidance-1"


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

    def __init__(self, folder: Path, judges: Path, shared: Store | None = None) -> None:
        self.folder, self.judges, self.shared = folder, judges, shared

    def job(self, looks: Looks = None, **score: Any) -> Any:
        from lcm_lora.seeing.features import Job

        wanted = Score(**{"networks": {"shapes": {"kind": "shapes"}}} | score)
        hashes = Hashes(self.folder / "hashes.sqlite")
        networks = find_networks(wanted, hashes, self.judges, looks)
        pieces = Pieces(self.folder / "store", hashes, self.shared)
        return Job(wanted, networks, torch.device("cpu"), pieces, hashes)

    def at(self, images: Path, painter: str = "adapter", out: str = "out", **score: Any) -> Path:
        """Look at a painter's sets; return the file of the first."""
        from lcm_lora.seeing.features import features

        sets = generated_sets(images, painter)
        features(self.job(**score), painter, sets, self.folder / out)
        return next(iter(sorted((self.folder / out).glob("*.safetensors"))))
