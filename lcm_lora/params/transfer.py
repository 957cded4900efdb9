"""Where else the new adapter is tried: on fine-tunes that it never saw, and beside styles."""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple, Self

from pydantic import AfterValidator, Field, model_validator

from lcm_lora.params.generate import ADAPTER, TEACHER, Cell, PainterName, Sampling
from lcm_lora.params.score import Looks
from lcm_lora.params.section import Section
from lcm_lora.params.values import Text

_MIX = "mix-"

Weight = Annotated[float, Field(ge=-10, le=10)]


def _subject_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise ValueError("is no name of a subject; take small letters, digits and -")
    return name


SubjectName = Annotated[str, Field(max_length=40), AfterValidator(_subject_name)]


class Subject(Section):
    """Whom the new adapter is put on: a base, and adapters beside it."""

    base: Text | None = None
    """Another base than `base.model`, named as that is: a fine-tune."""
    adapters: dict[Text, Weight] = Field(default_factory=dict)
    """Styles and their weights: LoRA files, folders, hub ids, `models:/NAME@ALIAS`, or
    `shapes-ink`."""
    looks: Looks = None
    """Of the shapes world: which looks its pictures should have, judged beside their content."""

    @model_validator(mode="after")
    def _once(self) -> Self:
        looks = self.looks or ()
        if twice := next((look for look in looks if looks.count(look) > 1), None):
            raise ValueError(f"looks: {twice} is there more than once; remove one")
        return self


class Mix(NamedTuple):
    """A point of the map: how much of the new adapter, and how much of the subject's styles."""

    acceleration: float
    style: float

    @property
    def name(self) -> str:
        """Its painter, such as `mix-100-75`, in percent."""
        return f"{_MIX}{round(100 * self.acceleration)}-{round(100 * self.style)}"


WHOLE = Mix(1.0, 1.0)
"""The point of the map at which nobody has turned a weight."""

Share = Annotated[float, Field(ge=0, le=2, multiple_of=0.01)]


class Map(Section):
    """Weights that are tried together."""

    cell: Cell
    acceleration: Annotated[tuple[Share, ...], Field(min_length=1, max_length=11)]
    """l1: of the new adapter."""
    style: Annotated[tuple[Share, ...], Field(min_length=1, max_length=11)]
    """l2: times the weights of the subject's own adapters."""


class Transfer(Section):
    """The new adapter elsewhere, against each subject's own pictures in many steps."""

    prompts: int = Field(ge=4)
    """So many of the evaluation set's captions, from the first."""
    painters: dict[PainterName, Sampling]
    """How each subject paints without the new adapter: its teacher, and classical solvers."""
    adapter: Sampling
    """And with it."""
    map: Map | None = None
    subjects: dict[SubjectName, Subject] = Field(default_factory=dict)
    """Empty tries nothing."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if TEACHER not in self.painters:
            raise ValueError("painters: the teacher is missing; add one")
        for name in self.painters:
            if is_mix(name):
                raise ValueError(
                    f"painters: {name} is what a point of the map is called; rename it"
                )
        return self

    def names(self, subject: str) -> list[str]:
        """Return the names of all who paint in a subject, in the order of tables."""
        return [*self.painters, ADAPTER, *(mix.name for mix in self.mixes(subject))]

    def mixes(self, subject: str) -> tuple[Mix, ...]:
        """Return the points of a subject's map; without styles, they lie on a line."""
        if self.map is None:
            return ()
        styles = self.map.style if self.subjects[subject].adapters else (1.0,)
        return tuple(Mix(a, s) for s in styles for a in self.map.acceleration)


def is_mix(painter: str) -> bool:
    """Tell whether a painter is a point of a map."""
    return painter.startswith(_MIX)
