"""Kinds of values that several sections hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

_LONGEST_PATH = 4096


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty; name something")
    return text


def _not_here(path: Path) -> Path:
    if path == Path():
        raise ValueError("is the project's own folder; name another")
    if len(str(path)) > _LONGEST_PATH:
        raise ValueError(f"is longer than {_LONGEST_PATH} characters; no path can be")
    return path


Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""Of random numbers."""

Text = Annotated[str, Field(max_length=1000), AfterValidator(_not_blank)]
"""A name, or where something is: not blank, and no longer than every database takes."""

SourcePath = Annotated[Path, AfterValidator(_not_here)]
"""Where pictures are: outside of what the project itself writes."""
