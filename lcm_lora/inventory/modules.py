"""Styles that parameters name in the registry, as the flow brought them here.

The library knows no registry: whoever names `models:/NAME@ALIAS` finds here what it was at the
beginning of the run.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from lcm_lora import layout
from lcm_lora.errors import UserError
from lcm_lora.recipe import WEIGHTS
from lcm_lora.records import Record, read_record

MODULE = "module.json"
"""The record beside the weights."""

_PREFIX = "models:/"
_MEND = "run `python -m flows.retrain`, which brings it from the registry"


class Module(Record):
    """A version of the registry that was brought: its name in the parameters, and its content."""

    name: str
    """Such as `models:/lcm-lora-shapes-modules@style-ink`."""
    version: str
    """Such as `lcm-lora-shapes-modules version 3`."""
    sha256: str
    """Of the weights."""


def is_module(name: str) -> bool:
    """Tell whether parameters name something in the registry."""
    return name.startswith(_PREFIX)


def module_folder(name: str) -> Path:
    """Return where, in the project's folder, what a name means in the registry is brought to."""
    return layout.MODULES / hashlib.sha256(name.encode()).hexdigest()[:16]


def module_file(name: str) -> Path:
    """Return the weights that a name means in the registry.

    Args:
        name: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    Raises:
        UserError: They were not brought here.
    """
    folder = module_folder(name)
    if not (folder / MODULE).is_file() or not (folder / WEIGHTS).is_file():
        raise UserError(f"{name}: is not here; {_MEND}")
    return folder / WEIGHTS


def read_module(folder: Path) -> Module:
    """Return which version was brought to a folder.

    Raises:
        UserError: The record that says so is missing or damaged.
    """
    return read_record(folder / MODULE, Module, _MEND)
