"""What a page asks for, within limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

from lcm_lora.errors import UserError, one_of
from lcm_lora.painting.subject import Subject
from lcm_lora.params.generate import Generate
from lcm_lora.params.reading import parse
from lcm_lora.params.section import Section
from lcm_lora.params.values import Text
from lcm_lora.showing.asked import Asked, asked_of, most_steps

LONGEST_PROMPT = 500
MOST_STEPS = 50
MOST_PICTURES = 48
LARGEST_SEED = 2**53 - 1
"""A page's numbers are exact up to here."""


def _on_one_line(text: str) -> str:
    return " ".join(text.split())


class Wish(Section):
    """One prompt, by several painters in several numbers of steps."""

    prompt: Annotated[Text, Field(max_length=LONGEST_PROMPT), AfterValidator(_on_one_line)]
    painters: Annotated[tuple[str, ...], Field(min_length=1, max_length=MOST_PICTURES)]
    steps: Annotated[tuple[Annotated[int, Field(ge=1, le=MOST_STEPS)], ...], Field(max_length=16)]
    seed: int = Field(ge=0, le=LARGEST_SEED)


def read_wish(
    raw: object, params: Generate, subjects: dict[str, Subject]
) -> tuple[Wish, tuple[Asked, ...]]:
    """Return a wish, and the pictures that it comes to, in the order of its painters and steps.

    A painter that was trained for fewer steps than are asked for leaves those out.

    Raises:
        UserError: It is none, or wants too much.
    """
    wish = parse(Wish, raw, "request")
    names = [one_of(name, subjects) for name in wish.painters]
    asked = tuple(
        one
        for name in dict.fromkeys(names)
        for one in asked_of([name], _possible(name, wish.steps, params, subjects), params, subjects)
    )
    if not asked:
        raise UserError("request: steps: none are chosen; choose some")
    if len(asked) > MOST_PICTURES:
        raise UserError(f"request: {len(asked)} pictures; ask for at most {MOST_PICTURES}")
    return wish, asked


def _possible(
    name: str, steps: Sequence[int], params: Generate, subjects: dict[str, Subject]
) -> list[int]:
    most = most_steps(params.painter(name), subjects[name])
    return [count for count in steps if count <= most]
