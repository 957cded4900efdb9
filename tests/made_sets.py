"""Image sets and scores as the stages write them, whose pictures are clean ones with noise on."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lcm_lora.data.pictures import encoded
from lcm_lora.data.shards import write_tar
from lcm_lora.evaluation.scores import Against, CellRecord, MetricRecord, Pair, Row, Verdict
from lcm_lora.files import sha256
from lcm_lora.params.generate import REAL, Cell, Sampler, cell_id
from lcm_lora.records import write_record
from lcm_lora.seeing.image_sets import captions_sha256
from lcm_lora.seeing.set_records import SetRecord, SetScheduler


def write_pictures(
    folder: Path,
    sampler: Sampler,
    cell: Cell,
    flaw: float,
    clean: NDArray[np.uint8],
    captions: tuple[str, ...],
) -> SetRecord:
    """Write a cell of the painter that the folder is called after; return its record."""
    noise = np.random.default_rng(cell.seeds).normal(size=clean.shape)
    pictures = np.clip(clean + 90 * flaw * noise, 0, 255).astype(np.uint8)
    pngs = (encoded(Image.fromarray(picture), None) for picture in pictures)
    tar = folder / f"{cell.name}.tar"
    write_tar(tar, ((f"{i:08d}.png", png) for i, png in enumerate(pngs)))
    record = SetRecord(
        **cell.model_dump(),
        painter=folder.name,
        subject_sha256="2" * 64,
        sampler=sampler,
        nfe=cell.nfe,
        count=len(captions),
        scheduler=SetScheduler(**{"class": "LCMScheduler"}, timesteps=(999,)),
        prompts_sha256=captions_sha256(captions),
        height=clean.shape[1],
        width=clean.shape[2],
        tar_sha256=sha256(tar),
    )
    write_record(tar.with_suffix(".json"), record)
    return record


def cell_record(painter: str, sampler: Sampler, cell: Cell) -> CellRecord:
    return CellRecord(
        id=cell_id(painter, cell),
        painter=painter,
        sampler=sampler,
        nfe=cell.nfe,
        images_sha256="1" * 64,
        subject_sha256="2" * 64,
        **cell.model_dump(),
    )


def real_record() -> CellRecord:
    nothing = {"steps": 0, "guidance": 0.0, "seeds": 0, "nfe": 0, "sampler": None}
    return CellRecord(id=REAL, painter=REAL, images_sha256="3" * 64, subject_sha256=None, **nothing)


def pair_of(metric: MetricRecord, a: Row, b: Row, against: Against, width: float) -> Pair:
    """Return how two rows compare, with an interval of so many standard errors either way."""
    difference, se = a.value - b.value, 0.6 * a.se
    low, high = difference - width * se, difference + width * se
    good = (-high, -low) if metric.lower_is_better else (low, high)
    verdict: Verdict = "better" if good[0] > 0 else "worse" if good[1] < 0 else "level"
    # Pictures that start from one noise are matched, which misleads the distance to the teacher.
    is_decisive = not (metric.kind == "fd" and metric.reference == "teacher")
    return Pair(
        metric=metric.name,
        a=a.cell,
        b=b.cell,
        against=against,
        difference=difference,
        se=se,
        low=low,
        high=high,
        is_decisive=is_decisive,
        verdict=verdict if is_decisive else "level",
    )
