"""An adapter's file or folder as it is on disk: tensors, texts beside them, and where it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lcm_lora.adapter_files import WEIGHTS
from lcm_lora.combining.delta import COMPONENTS, Component
from lcm_lora.errors import UserError
from lcm_lora.families.header import is_pickle, read_header

if TYPE_CHECKING:
    from torch import Tensor

PEFT_WEIGHTS, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"

_MEND = "fetch it again, or name another file"


@dataclass(frozen=True, slots=True)
class Opened:
    """One file of an adapter."""

    path: Path
    tensors: Mapping[str, Tensor]
    metadata: dict[str, str]
    """Of the file's header."""
    config: Path | None
    """PEFT's configuration beside it, if it is PEFT's."""

    @property
    def component(self) -> Component | None:
        """The component whose name PEFT's folder has, if it has one's."""
        names = (name for name in COMPONENTS if self.config and self.path.parent.name == name)
        return next(names, None)


def adapter_files(path: Path) -> list[Path]:
    """Return the safetensors files that an adapter is made of: one, or one a component.

    Args:
        path: A file; a folder that PEFT wrote, or with such folders by component; a folder with
            the name that diffusers looks for, or with one safetensors file.

    Raises:
        UserError: Nothing is there, it is pickled, or it cannot be told which file is meant.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; mend its name")
    if path.is_file():
        if is_pickle(path):
            raise UserError(f"{path}: pickled weights are refused; convert to safetensors")
        return [path]
    parts = [path / component / PEFT_WEIGHTS for component in COMPONENTS]
    if found := [file for file in parts if file.is_file()]:
        return found
    for name in (PEFT_WEIGHTS, WEIGHTS):
        if (path / name).is_file():
            return [path / name]
    return [_only_file(path)]


def single_file(path: Path) -> Path:
    """Return the one file that is all of an adapter, so that its hash says what it is.

    Args:
        path: As `adapter_files` takes it.

    Raises:
        UserError: As `adapter_files`; or it is PEFT's, whose configuration is beside the weights.
    """
    first, *more = adapter_files(path)
    if more or first.name == PEFT_WEIGHTS:
        raise UserError(
            f"{path}: is PEFT's, with its configuration in a file of its own; make one file of it "
            "by `lcm-lora combine`"
        )
    return first


def open_adapter(path: Path) -> list[Opened]:
    """Read the files of an adapter.

    Raises:
        UserError: As `adapter_files`; or one is no safetensors file, or is cut short.
    """
    return [_open(file) for file in adapter_files(path)]


def _open(path: Path) -> Opened:
    from safetensors.torch import load_file

    metadata = read_header(path, _MEND).metadata
    tensors = load_file(path)
    config = path.parent / PEFT_CONFIG
    is_peft = path.name == PEFT_WEIGHTS and config.is_file()
    return Opened(path, tensors, metadata, config if is_peft else None)


def _only_file(folder: Path) -> Path:
    found = sorted(folder.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    pickled = any(is_pickle(entry) for entry in folder.iterdir())
    hint = "; pickled weights are refused, convert to safetensors" if pickled else ""
    raise UserError(
        f"{folder}: holds {len(found)} safetensors files and no {WEIGHTS}; name the file{hint}"
    )
