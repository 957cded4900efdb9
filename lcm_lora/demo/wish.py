"""What a page asks for, within limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import AfterValidator, Field

from lcm_lora.errors import UserError, one_of
from lcm_lora.painting.subject import Subject, Weighted
from lcm_lora.params.generate import Generate
from lcm_lora.params.reading import parse
from lcm_lora.params.section import Section
from lcm_lora.params.values import Text
from lcm_lora.showing.asked import Asked, asked_of, is_distilled, most_steps
from lcm_lora.showing.order import Order, Weights

LONGEST_PROMPT = 500
MOST_STEPS = 50
MOST_PICTURES = 48
LARGEST_WEIGHT = 1.5
"""Where a dial ends, so that most of its way is for what is useful; `lcm-lora image` goes on."""
LARGEST_GUIDANCE = 3.0
LARGEST_SEED = 2**53 - 1
"""A page's numbers are exact up to here."""


def _on_one_line(text: str) -> str:
    return " ".join(text.split())


Amount = Annotated[float, Field(ge=0, le=LARGEST_WEIGHT)]


class Wish(Section):
    """One prompt, by several painters in several numbers of steps."""

    prompt: Annotated[Text, Field(max_length=LONGEST_PROMPT), AfterValidator(_on_one_line)]
    negative: Annotated[str, Field(max_length=LONGEST_PROMPT), AfterValidator(_on_one_line)] = ""
    """What guidance leads away from, where it is above 1."""
    painters: Annotated[tuple[str, ...], Field(min_length=1, max_length=MOST_PICTURES)]
    steps: Annotated[tuple[Annotated[int, Field(ge=1, le=MOST_STEPS)], ...], Field(max_length=16)]
    seed: int = Field(ge=0, le=LARGEST_SEED)
    guidance: Annotated[float, Field(ge=1, le=LARGEST_GUIDANCE)] | None = None
    """Of painters that are distilled; None is each one's own."""
    acceleration: Amount = 1.0
    """l1: how much of the adapter."""
    styles: dict[str, Amount] = Field(default_factory=dict)
    """l2: how much of which styles, by the names that they are offered by."""


def read_wish(
    raw: object,
    params: Generate,
    subjects: dict[str, Subject],
    styles: Mapping[str, Weighted] | None = None,
) -> tuple[Order, tuple[Asked, ...]]:
    """Return what is wished for, and its pictures in the order of its painters and steps.

    A painter that was trained for fewer steps than are asked for leaves those out.

    Args:
        raw: What came.
        params: How each painter paints.
        subjects: Who each painter is.
        styles: That are offered, by name.

    Raises:
        UserError: It is none, or wants too much.
    """
    wish = parse(Wish, raw, "request")
    names = [one_of(name, subjects) for name in wish.painters]
    asked = tuple(
        one for name in dict.fromkeys(names) for one in _of_painter(name, wish, params, subjects)
    )
    if not asked:
        raise UserError("request: steps: none are chosen; choose some")
    if len(asked) > MOST_PICTURES:
        raise UserError(f"request: {len(asked)} pictures; ask for at most {MOST_PICTURES}")
    return _order(wish, styles or {}), asked


def _of_painter(
    name: str, wish: Wish, params: Generate, subjects: dict[str, Subject]
) -> Sequence[Asked]:
    painter = params.painter(name)
    most = most_steps(painter, subjects[name])
    possible = [count for count in wish.steps if count <= most]
    guidance = wish.guidance if is_distilled(painter) else None
    return asked_of([name], possible, params, subjects, guidance)


def _order(wish: Wish, styles: Mapping[str, Weighted]) -> Order:
    # In the order in which they are offered: sums of the same weights are then the same to the bit.
    amounts = {one_of(name, styles): amount for name, amount in wish.styles.items()}
    worn = (replace(styles[name], weight=amounts[name]) for name in styles if name in amounts)
    weights = Weights(wish.acceleration, tuple(worn))
    return Order(wish.prompt, wish.seed, wish.negative or None, weights=weights)
