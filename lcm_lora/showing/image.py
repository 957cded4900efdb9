"""Paint a prompt into a file: one plain picture, or a sheet of several."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from lcm_lora import layout
from lcm_lora.champion_record import read_champion
from lcm_lora.combining.named import weighted_file
from lcm_lora.errors import UserError
from lcm_lora.files import write_bytes
from lcm_lora.hashes import Hashes
from lcm_lora.painting.start import Start
from lcm_lora.painting.subject import Places, Subject
from lcm_lora.params.generate import CHAMPION, Generate
from lcm_lora.params.hardware import Hardware
from lcm_lora.params.prepare import Prepare
from lcm_lora.params.reading import load_section
from lcm_lora.progress import progress
from lcm_lora.showing.asked import Asked, asked_of, subjects_of
from lcm_lora.showing.cost import cost_of
from lcm_lora.showing.easel import Easel
from lcm_lora.showing.options import Options, check_asked, check_goes_together
from lcm_lora.showing.order import Order, Weights
from lcm_lora.showing.sheet import sheet
from lcm_lora.showing.starts import how_it_is_cut, opened, start_of
from lcm_lora.showing.styles import style_name, styles_of
from lcm_lora.stages.generate import PLACES

_SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def write_image(options: Options, adapter: Path, out: Path) -> list[str]:
    """Paint what is wanted with the project in the working folder, and write it to `out`.

    Args:
        options: What is asked for.
        adapter: Folder of the new adapter.
        out: Picture to write; one picture stays plain, several are a sheet with captions.

    Returns:
        What a person should know of how it was painted, line by line.

    Raises:
        UserError: A part is missing, damaged or unknown, options do not go together, or the file
            cannot be of this kind.
    """
    kind = _kind(out)
    _check_place(out)
    check_goes_together(options)
    params = load_section(layout.PARAMS, Generate)
    hardware = load_section(layout.PARAMS, Hardware)
    size = load_section(layout.PARAMS, Prepare).resolution
    places = replace(PLACES, adapter=adapter)
    start, notes = _start(options, size)
    with Hashes(layout.HASHES) as hashes:
        subjects = subjects_of(options.painters, params, places, hashes)
        subjects = _weighted(options, subjects, hashes)
    asked = asked_of(options.painters, options.steps, params, subjects, options.guidance)
    check_asked(options, asked, start)
    easel, pictures = Easel(params, hardware, size, subjects), []
    order = Order(options.prompt, options.seed, options.negative, start)
    with progress("image", len(asked), "pictures") as advance:
        for one in asked:
            pictures.append(Image.fromarray(easel.paint(one, order)))
            advance(1, one.painter)
    picture = pictures[0]
    if len(pictures) > 1:
        more = (_versions(options.painters, places), start, ", ".join(_told(options, start)))
        picture = sheet(options.prompt, asked, pictures, *more)
    write_bytes(out, _encoded(picture, kind))
    return [*notes, *(cost_of(one, start) for one in asked), *_unled(options, asked)]


def _start(options: Options, size: int) -> tuple[Start | None, list[str]]:
    """Return what is painted over, and what a person should know of it."""
    if options.picture is None:
        return None, []
    whole = opened("--picture", options.picture)
    cut = how_it_is_cut(whole.size, size)
    notes = [f"{options.picture}: {cut}"] if cut else []
    return start_of(whole, options.mask, options.strength, size), notes


def _weighted(
    options: Options, subjects: Mapping[str, Subject], hashes: Hashes
) -> dict[str, Subject]:
    """Return the painters with the styles and the weight that are options."""
    bases = [subject.base for subject in subjects.values()]
    weights = Weights(options.weight, styles_of(options.styles, bases[0], hashes) if bases else ())
    return {name: weights.on(name, subject) for name, subject in subjects.items()}


def _told(options: Options, start: Start | None) -> Iterator[str]:
    """Say what all painters were told besides the prompt."""
    if start is not None:
        yield f"strength {start.strength:g}"
    if options.weight != 1:
        yield f"acceleration {options.weight:g}"
    for file, weight in map(weighted_file, options.styles):
        yield f"{style_name(str(file))} {weight:g}"
    if options.negative is not None:
        yield f"negative {options.negative}"


def _unled(options: Options, asked: Sequence[Asked]) -> Iterator[str]:
    """Say who heeds no negative prompt."""
    names = dict.fromkeys(one.painter for one in asked if one.cell.guidance <= 1)
    if options.negative is not None and names:
        yield f"{', '.join(names)}: --negative acts above guidance 1 alone, so not here"


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


def _encoded(picture: Image.Image, kind: str) -> bytes:
    with io.BytesIO() as file:
        picture.save(file, kind, quality=95)
        return file.getvalue()
