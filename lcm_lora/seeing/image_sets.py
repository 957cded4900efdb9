"""Read image sets back: those that a painter made, or the real ones of the evaluation set.

Legend: H x W pixels of a picture.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from lcm_lora.data.picture_sets import EVALUATION, read_set
from lcm_lora.data.shards import has_end
from lcm_lora.errors import UserError, reason
from lcm_lora.params.generate import REAL, Cell, Sampler
from lcm_lora.records import check_file, read_record
from lcm_lora.seeing.set_records import Painted, SetRecord

PAINTED = "painted.json"


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Pictures and captions: `name` is that of their file of features."""

    name: str
    painter: str
    """Who made them; `real` for nobody."""
    subject_sha256: str | None
    sampler: Sampler | None
    cell: Cell | None
    """None, as the two before it, of real pictures."""
    captions: tuple[str, ...]
    tar: Path
    tar_sha256: str
    held: int
    """Pictures in the tar: one for each caption, or more, of which the set is the first."""
    command: str
    """What makes the set anew."""

    def first(self, count: int) -> ImageSet:
        """Return the set of the first `count` pictures."""
        return replace(self, captions=self.captions[:count])

    def check(self) -> None:
        """Check the tar against its record.

        Raises:
            UserError: It is missing, damaged or of another set.
        """
        check_file(self.tar, self.tar_sha256, f"run `{self.command}`")

    def pngs(self, wanted: Container[int] | None = None) -> Iterator[tuple[int, bytes]]:
        """Yield (index, PNG) of the pictures in the order of the captions.

        Args:
            wanted: The indices to read; None for all.

        Raises:
            UserError: The tar is missing, damaged or of another set.
        """
        found = 0
        for index, content in _members(self.tar, wanted, self.command):
            found = index + 1
            if content is not None and index < len(self.captions):
                yield index, content
        if found != self.held:
            first = f", {found:08d}.png is missing" if found < self.held else ""
            raise UserError(
                f"{self.tar}: holds {found} pictures for {self.held} captions{first}; run "
                f"`{self.command}`"
            )

    def decoded(self, index: int, content: bytes) -> Image.Image:
        """Return a picture of it, RGB.

        Raises:
            UserError: It is broken.
        """
        return _decoded(self.tar, index, content, self.command)


def generated_sets(folder: Path, painter: str, command: str | None = None) -> list[ImageSet]:
    """Return the image sets of a painter in `folder`, in the order of their names.

    There are none of a champion that does not exist.

    Args:
        folder: Of the painter.
        painter: Its name.
        command: What makes the sets anew; None is what paints them in the main table.

    Raises:
        UserError: A file of theirs is missing, damaged or of other sets.
    """
    command = command or painting(painter)
    mend = f"run `{command}`"
    painted = read_record(folder / PAINTED, Painted, mend)
    if unlisted := {tar.stem for tar in folder.glob("*.tar")} - set(painted.cells):
        raise UserError(f"{folder / PAINTED}: does not list {min(unlisted)}; {mend}")
    names, captions = sorted(painted.cells), painted.captions
    return [_generated(folder, painter, name, captions, command) for name in names]


def _generated(
    folder: Path, painter: str, name: str, captions: tuple[str, ...], command: str
) -> ImageSet:
    about, mend = folder / f"{name}.json", f"run `{command}`"
    record = read_record(about, SetRecord, mend)
    if record.painter != painter:
        raise UserError(f"{about}: is of {record.painter}, not of {painter}; {mend}")
    if record.prompts_sha256 != captions_sha256(captions):
        raise UserError(f"{about}: is of other captions than {PAINTED} holds; {mend}")
    return ImageSet(
        name=name,
        painter=painter,
        subject_sha256=record.subject_sha256,
        sampler=record.sampler,
        cell=record.cell,
        captions=captions,
        tar=about.with_suffix(".tar"),
        tar_sha256=record.tar_sha256,
        held=len(captions),
        command=command,
    )


def real_sets(evaluation: Path) -> list[ImageSet]:
    """Return the two sets of the evaluation set, `real` and `reference`.

    Raises:
        UserError: One is missing or damaged.
    """
    return [real_set(evaluation, name) for name in EVALUATION]


def real_set(folder: Path, name: str) -> ImageSet:
    """Return the set NAME of real pictures in `folder`.

    Raises:
        UserError: It is missing or damaged.
    """
    record = read_set(folder, name)
    captions, tar = record.captions, folder / f"{name}.tar"
    content = (captions, tar, record.tar_sha256, len(captions))
    return ImageSet(name, REAL, None, None, None, *content, "lcm-lora prepare")


def read_pictures(tar: Path, indices: list[int], command: str) -> list[Image.Image]:
    """Return the pictures at `indices` of an image set's tar, RGB, in the order of `indices`.

    Only these are read, so the tar's hash is not checked; each PNG carries sums of its own.

    Args:
        tar: Its file.
        indices: Which, each once or more.
        command: What makes the set anew.

    Raises:
        UserError: The tar is missing or damaged, or holds fewer pictures.
    """
    wanted = set(indices)
    found = {
        index: _decoded(tar, index, content, command)
        for index, content in _members(tar, wanted, command)
        if content is not None
    }
    if missing := wanted - found.keys():
        raise UserError(f"{tar}: holds no picture {min(missing)}; run `{command}`")
    return [found[index] for index in indices]


def captions_of(folder: Path, command: str) -> tuple[str, ...]:
    """Return the captions of a painter's image sets, in the order of the pictures.

    Args:
        folder: Of the painter.
        command: What makes the sets anew.

    Raises:
        UserError: They are missing or damaged.
    """
    return read_record(folder / PAINTED, Painted, f"run `{command}`").captions


def captions_sha256(captions: tuple[str, ...]) -> str:
    """Return a SHA-256 over captions and their order."""
    return hashlib.sha256(json.dumps(captions).encode()).hexdigest()


def painting(painter: str) -> str:
    """Return the command that paints a painter's image sets."""
    return f"lcm-lora generate {painter}"


def _members(
    tar: Path, wanted: Container[int] | None, command: str
) -> Iterator[tuple[int, bytes | None]]:
    """Yield (index, PNG) of every picture in a tar; None in the place of one that is not wanted."""
    mend = f"run `{command}`"
    try:
        with tarfile.open(tar, mode="r:") as file:
            for index, member in enumerate(file):
                if member.name != f"{index:08d}.png":
                    raise UserError(
                        f"{tar}: {index:08d}.png is missing, {member.name[:40]!a} is in its place; "
                        f"{mend}"
                    )
                if wanted is not None and index not in wanted:
                    yield index, None
                    continue
                content = file.extractfile(member)
                yield index, content.read() if content else b""
    except FileNotFoundError:
        raise UserError(f"{tar}: no such file; {mend}") from None
    except OSError as error:
        raise UserError(f"{tar}: cannot be read ({error.strerror}); {mend}") from None
    except tarfile.TarError as error:
        raise UserError(f"{tar}: broken tar ({reason(error)}); {mend}") from None
    if not has_end(tar):
        raise UserError(f"{tar}: truncated tar; {mend}")


def _decoded(tar: Path, index: int, content: bytes, command: str) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content), formats=("PNG",)).convert("RGB")
    except Exception as error:  # Pillow's decoders raise whatever they meet
        raise UserError(
            f"{tar}: {index:08d}.png is damaged ({reason(error)}); run `{command}`"
        ) from None
