"""Paint all that is compared in a subject, on one base that is loaded once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lcm_lora.files import new_folder
from lcm_lora.painting.sets import Sets, Theme
from lcm_lora.painting.studio import SharedBase, Studio
from lcm_lora.params.hardware import Hardware
from lcm_lora.pieces import Pieces
from lcm_lora.progress import progress
from lcm_lora.transfer.claimant import claimant
from lcm_lora.transfer.painters import Painter


def paint_subject(
    name: str,
    painters: Mapping[str, Painter],
    theme: Theme,
    hardware: Hardware,
    pieces: Pieces,
    out: Path,
) -> None:
    """Make the image sets of every painter of a subject, a folder each.

    What was painted before is linked: in the first rows and columns of the map subjects meet, and
    its corner of whole weights is the adapter's own cell.

    Args:
        name: Of the subject.
        painters: Who paints on its base.
        theme: What is painted.
        hardware: Where, and in which precision.
        pieces: Keeps what was painted.
        out: Folder to write.

    Raises:
        UserError: The base cannot be loaded, or an adapter does not fit it.
    """
    everyone = [
        Sets(who, painter.sampling, studio, theme)
        for (who, painter), studio in zip(
            painters.items(), _studios(painters, hardware), strict=True
        )
    ]
    with new_folder(out) as made:
        pieces.claim(claimant(name), [key for sets in everyone for key in sets.places()])
        total = sum(sets.count for sets in everyone)
        with progress(f"transfer {name}", total, "pictures") as advance:
            for sets in everyone:
                (made / sets.name).mkdir()
                sets.make(pieces, advance, made / sets.name)


def _studios(painters: Mapping[str, Painter], hardware: Hardware) -> list[Studio]:
    subjects = [painter.subject for painter in painters.values()]
    shared = SharedBase(subjects[0].base, hardware)
    return [Studio(subject, hardware, shared) for subject in subjects]
