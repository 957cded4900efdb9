"""Load a base's autoencoder alone, in float32: no weight of it ever passes through less."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL

from lcm_lora.families.found import Places


def load_vae(places: Places, files: Iterable[str]) -> Any:
    """Return the autoencoder, frozen and in evaluation mode.

    Args:
        places: Where the base lies, and the autoencoder that takes the place of its own.
        files: Names of the base's files.
    """
    lies = places.vae or places.model
    if lies.is_file():
        vae = AutoencoderKL.from_single_file(
            str(lies),
            config=str(places.configs),
            subfolder="vae",
            dtype=torch.float32,
            local_files_only=True,
        )
    else:
        folder = places.vae or places.model / "vae"
        vae = _of_folder(folder, variant_of(files, "vae/"))
    return vae.eval().requires_grad_(False)


def variant_of(files: Iterable[str], part: str) -> str | None:
    """Return `fp16` for a part whose weights are there in that variant only."""
    names = [name for name in files if name.startswith(part)]
    plain, variant = (
        any(name.endswith(f"model{end}") for name in names)
        for end in (".safetensors", ".fp16.safetensors")
    )
    return "fp16" if variant and not plain else None


def _of_folder(folder: Path, variant: str | None) -> Any:
    return AutoencoderKL.from_pretrained(
        str(folder), variant=variant, dtype=torch.float32, use_safetensors=True
    )
