"""What the page offers: who can paint, in how many steps, and what to try."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lcm_lora.champion_record import read_champion
from lcm_lora.data.picture_sets import read_set
from lcm_lora.demo.styles import OfferedStyle, styles_on_offer
from lcm_lora.errors import UserError
from lcm_lora.hashes import Hashes
from lcm_lora.painting.subject import Places, Subject, Weighted
from lcm_lora.params.generate import ADAPTER, CHAMPION, TEACHER, Generate
from lcm_lora.params.transfer import Transfer
from lcm_lora.recipe import read_recipe
from lcm_lora.report.style import how_title, painter_title
from lcm_lora.showing.asked import (
    asked_of,
    is_distilled,
    most_steps,
    own_guidance,
    subjects_of,
)
from lcm_lora.showing.sheet import colour_of

STEPS = (1, 2, 4, 8)

_ROLES = (ADAPTER, CHAMPION, TEACHER)
_EXAMPLES = 6


@dataclass(frozen=True, slots=True)
class Offered:
    """A painter on the page."""

    name: str
    title: str
    about: str
    """Which it is, or why it cannot paint."""
    colour: str
    is_there: bool
    is_chosen: bool
    """At first."""
    steps: int | None
    """Its own number of steps, whatever is asked for; None is as asked."""
    most: int
    """Numbers of steps that are asked for are left out above; 0 where it cannot paint."""
    guidance: float
    """Its own."""
    is_distilled: bool
    """So that another guidance than its own may be asked for."""


@dataclass(frozen=True, slots=True)
class Offer:
    """All that the page offers, and who the painters are."""

    painters: tuple[Offered, ...]
    subjects: dict[str, Subject]
    styles: tuple[OfferedStyle, ...]
    examples: tuple[str, ...]

    @property
    def wearable(self) -> dict[str, Weighted]:
        """The styles that can be worn, by name; no request can name another."""
        return {style.name: style.file for style in self.styles if style.file}


def offer_of(
    params: Generate,
    transfer: Transfer,
    own_styles: Sequence[str],
    places: Places,
    evaluation: Path,
    hashes: Hashes,
) -> Offer:
    """Return what the project in `places` can show.

    Args:
        params: Who paints, and how.
        transfer: Whose styles are offered.
        own_styles: More of them, as NAME=FILE.
        places: Where the parts of subjects are.
        evaluation: What `prepare` wrote; without it there are no examples.
        hashes: Of files that were read before.

    Raises:
        UserError: Not even the teacher can paint, or a style of `own_styles` cannot be worn.
    """
    subjects = subjects_of([TEACHER], params, places, hashes)
    missing: dict[str, str] = {}
    for name in params.names:
        try:
            subjects |= subjects_of([name], params, places, hashes)
        except UserError as error:
            missing[name] = str(error).removeprefix(f"{name}: ").replace("`", "")
    names = [*_ROLES, *(name for name in params.names if name not in _ROLES)]
    painters = (_offered(name, params, places, subjects, missing) for name in names)
    styles = styles_on_offer(transfer, own_styles, subjects[TEACHER].base, hashes)
    return Offer(tuple(painters), subjects, styles, _examples(evaluation))


def _offered(
    name: str,
    params: Generate,
    places: Places,
    subjects: dict[str, Subject],
    missing: dict[str, str],
) -> Offered:
    painter = params.painter(name)
    return Offered(
        name=name,
        title=painter_title(name),
        about=missing.get(name) or ", ".join(_about(name, params, places, subjects)),
        colour=colour_of(name),
        is_there=name in subjects,
        is_chosen=name in subjects and name in _ROLES,
        steps=painter.cells[0].steps if name == TEACHER else None,
        most=most_steps(painter, subjects[name]) if name in subjects else 0,
        guidance=painter.cells[0].guidance if name == TEACHER else own_guidance(painter),
        is_distilled=name != TEACHER and is_distilled(painter),
    )


def _about(
    name: str, params: Generate, places: Places, subjects: dict[str, Subject]
) -> Iterator[str]:
    """Yield in words which subject a painter is, and how it paints."""
    painter = params.painter(name)
    if name == ADAPTER:
        yield f"taken at step {read_recipe(places.adapter).step:,}"
    elif name == CHAMPION and (champion := read_champion(places.champion)):
        yield champion.version
    elif name == TEACHER:
        (asked,) = asked_of([TEACHER], (), params, subjects)
        yield f"{painter_title(painter.sampler)}, {how_title(asked.cell)}"
    elif not is_distilled(painter) and (guidance := own_guidance(painter)) > 1:
        yield f"guidance {guidance:g}"
    if name != TEACHER and (most := most_steps(painter, subjects[name])) < max(STEPS):
        yield f"at most {most} steps"


def _examples(evaluation: Path) -> tuple[str, ...]:
    try:
        captions = read_set(evaluation, "real").captions
    except UserError:
        return ()
    return tuple(dict.fromkeys(captions))[:_EXAMPLES]
