"""Read image sets back: the cells of a sampler, or the held-out pictures.

Legend: H x W pixels of a picture.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from lcm_lora.data.shards import encode_png, read_split, read_tar_members
from lcm_lora.errors import UserError

_REAL: dict[str, Any] = {
    "sampler": "real",
    "steps": 0,
    "guidance": 0.0,
    "nfe": 0,
    "seeds": 0,
    "ms_per_image": None,
}


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Pictures and captions: `name` is that of their file of features, `record` what they are."""

    name: str
    record: dict[str, Any]
    captions: list[str]
    tar: Path | None = None
    """Where the pictures are; none for held-out pictures."""
    shards: Path | None = None
    first: int = 0
    """Index of the first picture among the held-out ones."""

    def pngs(self) -> Iterator[bytes]:
        """Yield the pictures in the order of the captions, as PNG."""
        if self.tar is not None:
            found = 0
            for _, content in read_tar_members(
                self.tar, f"lcm-lora generate {self.record['sampler']}"
            ):
                found += 1
                yield content
            if found != len(self.captions):
                raise UserError(
                    f"{self.tar}: holds {found} pictures for {len(self.captions)} captions; "
                    f"run `lcm-lora generate {self.record['sampler']}`"
                )
        elif self.shards is not None:
            last = self.first + len(self.captions)
            for index, sample in enumerate(read_split(self.shards, "held_out", last)):
                if index >= self.first:
                    yield encode_png(sample.picture)


def generated_sets(folder: Path, sampler: str) -> list[ImageSet]:
    """Return the image sets that `generate` wrote into `folder`, in the order of their names.

    Raises:
        UserError: There are none, or a file of theirs is missing.
    """
    mend = f"run `lcm-lora generate {sampler}`"
    tars = sorted(folder.glob("*.tar"))
    if not tars:
        raise UserError(f"{folder}: holds no image sets; {mend}")
    captions = _read_json(folder / "captions.json", mend)
    latency = _read_json(folder / "latency.json", mend)
    sets = []
    for tar in tars:
        record = _read_json(tar.with_suffix(".json"), mend)
        record["ms_per_image"] = latency.get(tar.stem, {}).get("ms_per_image")
        sets.append(ImageSet(tar.stem, record, captions, tar=tar))
    return sets


def real_sets(shards: Path, prompts: int) -> list[ImageSet]:
    """Return the held-out pictures of the prompts, `real`, and the next as many, `reference`.

    Samplers are compared with pictures of other captions than theirs: against the pictures of their
    own, a distance would count each prompt's likeness twice and come out too low.
    """
    captions = [sample.caption for sample in read_split(shards, "held_out", 2 * prompts)]
    if len(captions) < 2 * prompts:
        raise UserError(
            f"generate.prompts: {prompts} asked for, and as many other pictures as reference, but "
            f"{shards} holds out only {len(captions)}; lower it, or raise prepare.held_out"
        )
    return [
        ImageSet("real", dict(_REAL), captions[:prompts], shards=shards),
        ImageSet("reference", dict(_REAL), captions[prompts:], shards=shards, first=prompts),
    ]


def read_pictures(tar: Path, indices: list[int]) -> list[Image.Image]:
    """Return the pictures at `indices` of an image set's tar, RGB, in the order of `indices`."""
    wanted = set(indices)
    found = {
        index: Image.open(io.BytesIO(content), formats=("PNG",)).convert("RGB")
        for index, (_, content) in enumerate(read_tar_members(tar, "lcm-lora generate"))
        if index in wanted
    }
    if missing := wanted - found.keys():
        raise UserError(f"{tar}: holds no picture {min(missing)}; run `lcm-lora generate` again")
    return [found[index] for index in indices]


def captions_of(folder: Path) -> list[str]:
    """Return the captions of a sampler's image sets, in the order of the pictures."""
    captions: list[str] = _read_json(folder / "captions.json", "run `lcm-lora generate`")
    return captions


def captions_sha256(captions: list[str]) -> str:
    """Return a SHA-256 over captions and their order."""
    return hashlib.sha256(json.dumps(captions).encode()).hexdigest()


def _read_json(path: Path, mend: str) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {mend}") from None
    except ValueError:
        raise UserError(f"{path}: not valid JSON; {mend}") from None
