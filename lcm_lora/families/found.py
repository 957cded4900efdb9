"""What the first look finds of a base, and where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lcm_lora.families.structure import Structure
from lcm_lora.model_files import ModelInventory


class BaseInventory(ModelInventory):
    """The files of a base that loading reads, and what it is.

    `files` names those of another autoencoder under `vae/`, and configuration that stands for what
    a single file lacks under `config/`.
    """

    structure: Structure
    config: str | None
    """As the parameters name it."""
    vae: str | None
    """As the parameters name it."""
    vae_commit: str | None
    """Of an autoencoder's hub id."""


@dataclass(frozen=True, slots=True)
class BaseFiles:
    """Where a base's files lie on this machine."""

    model: Path
    """A diffusers folder, or a single file."""
    configs: Path
    """A diffusers folder of configuration files: the model itself, or what stands for its own."""
    tokenizer: Path | None
    """Of a single file: a folder with `tokenizer/`; None for CLIP's vocabulary."""
    vae: Path | None
    """A folder or a file, where it is not the base's own."""
