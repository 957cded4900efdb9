"""Which styles the page offers: those of the transfer evaluation, and those named at its start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lcm_lora.combining.fits import check_fits
from lcm_lora.combining.read import read_lora
from lcm_lora.errors import UserError
from lcm_lora.families.found import BaseInventory
from lcm_lora.hashes import Hashes
from lcm_lora.painting.subject import Weighted
from lcm_lora.params.transfer import Transfer
from lcm_lora.showing.styles import style_name, style_of

_LONGEST_NAME = 40


@dataclass(frozen=True, slots=True)
class OfferedStyle:
    """A style on the page."""

    name: str
    file: Weighted | None
    """None where it cannot be worn."""
    about: str
    """Where it is from, or why it cannot be worn."""


def styles_on_offer(
    transfer: Transfer, own: Iterable[str], base: BaseInventory, hashes: Hashes
) -> tuple[OfferedStyle, ...]:
    """Return the styles, each name once; one that is named at the start takes the place of another.

    Args:
        transfer: Whose subjects wear styles.
        own: Named at the start, as NAME=FILE.
        base: What they are put on.
        hashes: Of files that were read before.

    Raises:
        UserError: One that is named at the start is not written so, or cannot be worn.
    """
    offered = {style.name: style for style in _of_subjects(transfer, base, hashes)}
    for text in own:
        style = _named(text, base, hashes)
        offered[style.name] = style
    return tuple(offered.values())


def _of_subjects(transfer: Transfer, base: BaseInventory, hashes: Hashes) -> Iterator[OfferedStyle]:
    """Yield the subjects' styles, each by a name of its own."""
    files = dict.fromkeys(file for who in transfer.subjects.values() for file in who.adapters)
    named: Counter[str] = Counter()
    for file in files:
        name, where = style_name(file)[:_LONGEST_NAME], "transfer"
        named[name] += 1
        if named[name] > 1:
            name = f"{name} {named[name]}"
        try:
            style = style_of(where, file, 1.0, base, hashes)
            check_fits(where, read_lora(style.file), base)
            yield OfferedStyle(name, style, file)
        except UserError as error:
            why = str(error).removeprefix(f"{where}: ").replace("`", "")
            yield OfferedStyle(name, None, why)


def _named(text: str, base: BaseInventory, hashes: Hashes) -> OfferedStyle:
    name, _, file = (part.strip() for part in text.partition("="))
    if not name or not file or len(name) > _LONGEST_NAME:
        raise UserError(
            f"--style {text}: write NAME=FILE, such as ink=ink.safetensors, with a name of at most "
            f"{_LONGEST_NAME} letters"
        )
    return OfferedStyle(name, style_of(f"--style {name}", file, 1.0, base, hashes), file)
