"""Paint a prompt into a file: one plain picture, or a sheet of several."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from lcm_lora import layout
from lcm_lora.champion_record import read_champion
from lcm_lora.errors import UserError
from lcm_lora.files import write_bytes
from lcm_lora.hashes import Hashes
from lcm_lora.painting.subject import Places
from lcm_lora.params.generate import CHAMPION, Generate
from lcm_lora.params.hardware import Hardware
from lcm_lora.params.prepare import Prepare
from lcm_lora.params.reading import load_section
from lcm_lora.progress import progress
from lcm_lora.showing.asked import Asked, asked_of, subjects_of
from lcm_lora.showing.easel import Easel
from lcm_lora.showing.sheet import sheet
from lcm_lora.stages.generate import PLACES

_SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_MOST_PICTURES = 100


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to paint."""

    prompt: str
    painters: tuple[str, ...]
    steps: tuple[int, ...]
    guidance: float | None
    """None is each painter's own."""
    seed: int


def write_image(wanted: Wanted, adapter: Path, out: Path) -> None:
    """Paint what is wanted with the project in the working folder, and write it to `out`.

    Args:
        wanted: What.
        adapter: Folder of the new adapter.
        out: Picture to write; one picture stays plain, several are a sheet with captions.

    Raises:
        UserError: A part is missing, damaged or unknown, or the file cannot be of this kind.
    """
    kind = _kind(out)
    _check_place(out)
    params = load_section(layout.PARAMS, Generate)
    hardware = load_section(layout.PARAMS, Hardware)
    size = load_section(layout.PARAMS, Prepare).resolution
    with Hashes(layout.HASHES) as hashes:
        places = replace(PLACES, adapter=adapter)
        subjects = subjects_of(wanted.painters, params, places, hashes)
    asked = asked_of(wanted.painters, wanted.steps, params, subjects, wanted.guidance)
    _check(asked)
    easel, pictures = Easel(params, hardware, size, subjects), []
    with progress("image", len(asked), "pictures") as advance:
        for one in asked:
            pictures.append(Image.fromarray(easel.paint(one, wanted.prompt, wanted.seed)))
            advance(1, one.painter)
    which = _versions(wanted.painters, places)
    picture = pictures[0] if len(pictures) == 1 else sheet(wanted.prompt, asked, pictures, which)
    write_bytes(out, _encoded(picture, kind))


def _kind(out: Path) -> str:
    if kind := _SUFFIXES.get(out.suffix.lower()):
        return kind
    raise UserError(f"{out}: cannot write a picture of this kind; name it .png, .jpg or .webp")


def _check_place(out: Path) -> None:
    if not out.parent.is_dir():
        raise UserError(f"{out}: there is no folder {out.parent}; make it, or name another")
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        raise UserError(f"{out}: cannot be written there; name another place")


def _versions(painters: Sequence[str], places: Places) -> dict[str, str]:
    champion = read_champion(places.champion) if CHAMPION in painters else None
    return {CHAMPION: champion.version} if champion else {}


def _check(asked: tuple[Asked, ...]) -> None:
    if not asked:
        raise UserError("--subjects: nobody is named; name some, such as adapter,teacher")
    if len(asked) > _MOST_PICTURES:
        raise UserError(
            f"--steps, --subjects: {len(asked)} pictures on one sheet; ask for at most "
            f"{_MOST_PICTURES}"
        )


def _encoded(picture: Image.Image, kind: str) -> bytes:
    with io.BytesIO() as file:
        picture.save(file, kind, quality=95)
        return file.getvalue()
