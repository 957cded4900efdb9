"""Styles and fine-tunes that parameters name in the registry, as the flow brought them here.

The library knows no registry: whoever names `models:/NAME@ALIAS` finds here what it was at the
beginning of the run.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from lcm_lora import layout
from lcm_lora.adapter_files import WEIGHTS
from lcm_lora.errors import UserError
from lcm_lora.families.found import BaseInventory
from lcm_lora.records import Record, read_record

RECORD, BASE = "brought.json", "base.json"
"""The record beside what was brought; and of a fine-tune, which base it is."""
INSIDE = "base"
"""Where a fine-tune's files are, if they came along."""

_PREFIX = "models:/"
_MEND = "run `python -m flows.transfer` or `flows.retrain`, which bring it from the registry"


class Brought(Record):
    """A version of the registry that was brought: its name in the parameters, and its content."""

    name: str
    """Such as `models:/lcm-lora-shapes-modules@style-ink`."""
    version: str
    """Such as `lcm-lora-shapes-modules version 3`."""
    sha256: str
    """Of a style's weights, or over a fine-tune's files."""


def is_published(name: str) -> bool:
    """Tell whether parameters name something in the registry."""
    return name.startswith(_PREFIX)


def brought_folder(name: str) -> Path:
    """Return where, in the project's folder, what a name means in the registry is brought to."""
    return layout.MODULES / hashlib.sha256(name.encode()).hexdigest()[:16]


def brought_file(name: str) -> Path:
    """Return the weights that a name means in the registry.

    Args:
        name: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    Raises:
        UserError: They were not brought here.
    """
    folder = brought_folder(name)
    if not (folder / RECORD).is_file() or not (folder / WEIGHTS).is_file():
        raise UserError(f"{name}: is not here; {_MEND}")
    return folder / WEIGHTS


def brought_base(name: str) -> tuple[Path | None, BaseInventory]:
    """Return the base that a name means in the registry: where it lies, if it came along, and it.

    Raises:
        UserError: It was not brought here, or is damaged.
    """
    folder = brought_folder(name)
    if not (folder / RECORD).is_file():
        raise UserError(f"{name}: is not here; {_MEND}")
    published = read_record(folder / BASE, BaseInventory, _MEND)
    inside = folder / INSIDE
    if not inside.is_dir():
        return None, published
    is_folder = "model_index.json" in published.files
    return (inside if is_folder else inside / Path(published.model).name), published


def check_published(found: BaseInventory) -> None:
    """Check that a base which the registry only names is here as it was published.

    Raises:
        UserError: Its files are others.
    """
    _, published = brought_base(found.model)
    if found.sha256 != published.sha256:
        raise UserError(
            f"base {published.model}: is not as it was published, {found.model} has other hashes; "
            "publish it again, or fetch it anew"
        )
