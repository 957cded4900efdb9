"""Which pictures are asked for: by whom, in how many steps; checked before anything loads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lcm_lora.errors import UserError, one_of
from lcm_lora.hashes import Hashes
from lcm_lora.painting.subject import Places, Subject, subject_of
from lcm_lora.params.generate import TEACHER, Cell, Generate, Sampling

_PUBLISHED_POINTS = 50
"""Of the LCM scheduler, where no recipe says how many were trained."""

_CONSISTENT = {"lcm", "tcd"}
"""Samplers of distilled models, which have their guidance in them."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One picture to paint."""

    painter: str
    cell: Cell


def subjects_of(
    names: Iterable[str], params: Generate, places: Places, hashes: Hashes
) -> dict[str, Subject]:
    """Return who the painters of these names are.

    Raises:
        UserError: One is unknown, missing or damaged, or there is no champion.
    """
    known = [one_of(name, params.names) for name in dict.fromkeys(names)]
    return {name: _present(name, subject_of(name, params, places, hashes)) for name in known}


def asked_of(
    names: Iterable[str],
    steps: Sequence[int],
    params: Generate,
    subjects: Mapping[str, Subject],
    guidance: float | None = None,
) -> tuple[Asked, ...]:
    """Return the pictures of every painter at every number of steps, the teacher's one as it is.

    Args:
        names: Of painters.
        steps: Numbers of steps.
        params: How each painter paints.
        subjects: Who each painter is.
        guidance: Of all but the teacher; None is each painter's own.

    Raises:
        UserError: More steps are asked for than there are points to step over.
    """
    return tuple(
        asked
        for name in dict.fromkeys(names)
        for asked in _of_painter(name, steps, params.painter(name), subjects[name], guidance)
    )


def _of_painter(
    name: str, steps: Sequence[int], painter: Sampling, subject: Subject, guidance: float | None
) -> Iterator[Asked]:
    if name == TEACHER:
        # Its own noises would be others than those of the rest.
        yield Asked(name, painter.cells[0].model_copy(update={"seeds": 0}))
        return
    own = own_guidance(painter) if guidance is None else guidance
    most = most_steps(painter, subject)
    for count in dict.fromkeys(steps):
        if not 1 <= count <= most:
            raise UserError(f"{name}: {count} steps cannot be taken; ask for 1 to {most}")
        yield Asked(name, Cell(steps=count, guidance=own))


def own_guidance(painter: Sampling) -> float:
    """Return the guidance that suits a painter, of those that it is measured with."""
    pick = min if is_distilled(painter) else max
    return pick(cell.guidance for cell in painter.cells)


def is_distilled(painter: Sampling) -> bool:
    """Tell whether a painter samples as distilled models do, which have their guidance in them."""
    return painter.sampler in _CONSISTENT


def most_steps(painter: Sampling, subject: Subject) -> int:
    """Return over how many points a painter can step: the trained grid, or the whole schedule."""
    if painter.sampler != "lcm":
        return subject.base.structure.training_steps
    config = subject.lcm_config or {}
    return int(config.get("original_inference_steps", _PUBLISHED_POINTS))


def _present(name: str, subject: Subject | None) -> Subject:
    if subject is None:
        raise UserError(
            f"{name}: none to compare with; none was brought here, though the adapter may be "
            "champion itself, so name other subjects"
        )
    return subject
