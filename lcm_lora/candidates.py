"""The adapters that a training leaves along the way, one folder each, named by their step."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lcm_lora.errors import UserError
from lcm_lora.recipe import Recipe, read_recipe

_NAME = re.compile(r"step-(\d{8,})")
_MEND = "run `lcm-lora distill`"


@dataclass(frozen=True, slots=True)
class Candidate:
    """An adapter as it was after `step` optimiser steps."""

    step: int
    folder: Path

    def recipe(self) -> Recipe:
        """Read its recipe, and check the weights beside it.

        Raises:
            UserError: Something of it is missing or damaged.
        """
        return read_recipe(self.folder, _MEND)


def candidate_name(step: int) -> str:
    """Return the name of a candidate's folder, such as `step-00000150`: by name is by step."""
    return f"step-{step:08d}"


def find_candidates(folder: Path) -> list[Candidate]:
    """Return the candidates in the folder `folder`, the first step first.

    Raises:
        UserError: There are none, or something else is among them.
    """
    paths = list(folder.glob("*"))
    if not paths:
        raise UserError(f"{folder}: holds no candidates; {_MEND}")
    found = []
    for path in paths:
        name = _NAME.fullmatch(path.name)
        if name is None or not path.is_dir():
            raise UserError(f"{path}: not a candidate, such as {candidate_name(150)}; {_MEND}")
        found.append(Candidate(int(name[1]), path))
    return sorted(found, key=lambda candidate: candidate.step)
