"""Read the pictures that a report shows, and no others, from the image sets that were scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from lcm_lora.errors import UserError
from lcm_lora.evaluation.scores import CellRecord, Table
from lcm_lora.params.generate import ADAPTER
from lcm_lora.records import read_record
from lcm_lora.seeing.image_sets import (
    PAINTED,
    captions_of,
    captions_sha256,
    painting,
    read_pictures,
)
from lcm_lora.seeing.set_records import SetRecord


@dataclass(frozen=True, slots=True)
class Pictures:
    """The image sets of a table, and their captions."""

    images: Path
    """Folder of all painters' folders."""
    table: Table
    captions: tuple[str, ...]
    command: Callable[[str], str]
    """What paints a painter's anew."""

    def read(self, cell: CellRecord, indices: Sequence[int]) -> list[Image.Image]:
        """Return a cell's pictures at `indices`, RGB, in their order.

        The tar is not hashed, which would read all of it: gigabytes for a table of large pictures.
        PNG has checksums of its own, and the record beside the tar says whose it is.

        Raises:
            UserError: The set is missing, damaged, of another painter or of other captions.
        """
        about, command = self.images / f"{cell.id}.json", self.command(cell.painter)
        record = read_record(about, SetRecord, f"run `{command}`")
        scored = (cell.painter, cell.subject_sha256, self.table.protocol.captions_sha256)
        if (record.painter, record.subject_sha256, record.prompts_sha256) != scored:
            raise UserError(
                f"{about}: not the set that was scored; run `{command}`, and score it again"
            )
        return read_pictures(about.with_suffix(".tar"), list(indices), command)


def open_pictures(images: Path, table: Table, command: Callable[[str], str] = painting) -> Pictures:
    """Return the image sets of a table.

    Args:
        images: Folder of all painters' folders.
        table: Scores.
        command: What paints a painter's anew, by its name.

    Raises:
        UserError: The captions are missing or are not those that were scored.
    """
    captions = captions_of(images / ADAPTER, command(ADAPTER))
    if captions_sha256(captions) != table.protocol.captions_sha256:
        raise UserError(
            f"{images / ADAPTER / PAINTED}: not the captions that were scored; run "
            f"`{command(ADAPTER)}`, look at its pictures and score them again"
        )
    return Pictures(images, table, captions, command)
