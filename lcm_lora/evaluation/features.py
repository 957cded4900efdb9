"""Turn image sets into what all metrics are computed from; pictures are not looked at again.

Features go through clean-fid's reading and resizing, with our network in the place of its own.

Legend: N pictures, D dimensions.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from cleanfid.fid import get_files_features
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from lcm_lora.errors import UserError, reason
from lcm_lora.evaluation.attributes import attributes_of_captions
from lcm_lora.evaluation.clip_score import clip_scores
from lcm_lora.evaluation.image_sets import ImageSet, captions_sha256
from lcm_lora.evaluation.networks import (
    ClipScorer,
    FeatureNetwork,
    load_clip_scorer,
    load_feature_network,
    resize,
    to_shapes_input,
)
from lcm_lora.evaluation.set_records import FeatureRecord, NetworkRecord
from lcm_lora.files import new_folder, sha256, write_tensors
from lcm_lora.params.score import Score
from lcm_lora.progress import Advance, progress
from lcm_lora.records import write_record
from lcm_lora.shapes import places
from lcm_lora.shapes.judge import AttributeJudge, load_judge

BATCH = 64
"""Pictures that a network looks at together."""

_exactly = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
"""Without TF32, which would cost a third of the digits for work that takes no time."""


def features(
    score: Score,
    name: str,
    sets: list[ImageSet],
    out: Path,
    device: str,
    judges: Path = places.JUDGES,
) -> None:
    """Write features and per-picture scores of the image sets of `name` into the folder `out`.

    Args:
        score: Which networks look.
        name: A sampler, or `real`.
        sets: What is looked at.
        out: Folder to write.
        device: Of torch.
        judges: Folder of the networks that the shapes world ships.

    Raises:
        UserError: An image set or a network is missing or wrong, or captions are not of the shapes
            world although score.attributes asks for them.
    """
    place = torch.device(device)
    network = load_feature_network(score.features, judges, place)
    clip = load_clip_scorer(score.clip, judges, place)
    judge = load_attribute_judge(judges).to(place) if score.attributes else None
    total = sum(len(image_set.captions) for image_set in sets)
    with (
        new_folder(out) as made,
        progress(f"features {name}", total, "pictures") as advance,
    ):
        for image_set in sets:
            with tempfile.TemporaryDirectory(dir=made) as folder:
                pngs = unpack(image_set, Path(folder))
                captions = image_set.captions
                tensors: dict[str, NDArray[np.generic]]
                tensors = {"clip": clip_scores_of(pngs, captions, clip)}
                if judge is not None:
                    tensors["attributes"] = attributes_of(pngs, captions, judge, place)
                tensors["features"] = extract(pngs, network, BATCH, place, advance)
                _write(made, image_set, pngs, tensors, network, clip)


@_exactly
def extract(
    files: list[Path], network: FeatureNetwork, batch: int, device: torch.device, advance: Advance
) -> NDArray[np.float32]:
    """Return the features, float32 [N, D], of picture files."""

    def embed(pictures: Tensor) -> Tensor:
        embeddings = network.embed(pictures)
        advance(len(pictures))
        return embeddings

    found = get_files_features(
        [str(file) for file in files],
        model=embed,
        mode="clean",
        custom_fn_resize=resize(network.pixels),
        num_workers=0,
        batch_size=batch,
        device=device,
        verbose=False,
    )
    return np.asarray(found, np.float32)


@_exactly
def clip_scores_of(
    files: list[Path], captions: Sequence[str], clip: ClipScorer
) -> NDArray[np.float32]:
    """Return the CLIP score of each picture file with its caption, float32 [N]."""
    pictures = torch.cat([clip.pictures(pictures) for pictures in _opened(files)])
    words = clip.captions(captions)
    return clip_scores(pictures.numpy(), words.numpy()).astype(np.float32)


@_exactly
def attributes_of(
    files: list[Path], captions: Sequence[str], judge: AttributeJudge, device: torch.device
) -> NDArray[np.uint8]:
    """Return whether each picture file shows all that its caption says, 0 or 1, uint8 [N].

    Raises:
        UserError: A caption is not of the shapes world.
    """
    promised = attributes_of_captions(captions)
    kept = []
    for start, pictures in zip(range(0, len(files), BATCH), _opened(files), strict=True):
        part = slice(start, start + len(pictures))
        seen = judge.read(to_shapes_input(pictures).to(device))
        wanted = type(seen)(promised.figures[part].to(device), promised.ground[part].to(device))
        kept.append(wanted.agree(seen).cpu())
    return torch.cat(kept).numpy().astype(np.uint8)


def load_attribute_judge(judges: Path) -> AttributeJudge:
    """Load the judge of the shapes world from the folder `judges`.

    Raises:
        UserError: It is missing or damaged.
    """
    try:
        return load_judge(judges)
    except (OSError, SafetensorError, RuntimeError) as error:  # torch's own where tensors differ
        raise UserError(
            f"{judges / 'judge.safetensors'}: cannot be loaded ({reason(error)}); set"
            " score.attributes to false, or run `lcm-lora shapes-teacher`"
        ) from None


def unpack(images: ImageSet, folder: Path) -> list[Path]:
    """Write the pictures of an image set into a folder; return the files in their order.

    Raises:
        UserError: The set is missing or damaged.
    """
    files = []
    for index, content in enumerate(images.pngs()):
        files.append(folder / f"{index:08d}.png")
        files[-1].write_bytes(content)
    return files


def _opened(files: list[Path]) -> Iterator[list[Image.Image]]:
    for start in range(0, len(files), BATCH):
        yield [Image.open(file).convert("RGB") for file in files[start : start + BATCH]]


def _write(
    out: Path,
    images: ImageSet,
    pngs: list[Path],
    tensors: dict[str, NDArray[np.generic]],
    network: FeatureNetwork,
    clip: ClipScorer,
) -> None:
    for name, values in tensors.items():
        if not np.isfinite(values).all():
            raise UserError(f"{images.name}: {name} are not finite; check the network's weights")
    path = out / f"{images.name}.safetensors"
    write_tensors(path, {name: torch.from_numpy(values) for name, values in tensors.items()})
    record = FeatureRecord(
        sampler=images.sampler,
        steps=images.steps,
        guidance=images.guidance,
        nfe=images.nfe,
        seeds=images.seeds,
        ms_per_image=images.ms_per_image,
        captions_sha256=captions_sha256(images.captions),
        images_sha256=_pixels_sha256(pngs),
        network=NetworkRecord(
            name=network.name, sha256=network.sha256, preprocessing=network.preprocessing
        ),
        clip=NetworkRecord(name=clip.name, sha256=clip.sha256),
        sha256=sha256(path),
    )
    write_record(path.with_suffix(".json"), record)


def _pixels_sha256(files: list[Path]) -> str:
    """Return a SHA-256 over decoded pictures, which no PNG encoder's version changes."""
    digest = hashlib.sha256()
    for pictures in _opened(files):
        for picture in pictures:
            digest.update(repr(picture.size).encode())
            digest.update(picture.tobytes())
    return digest.hexdigest()
