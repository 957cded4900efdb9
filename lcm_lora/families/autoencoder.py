"""Load a base's autoencoder alone, in float32: no weight of it ever passes through less."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL

from lcm_lora.families.found import BaseFiles
from lcm_lora.families.parts import weights_of


def load_vae(files: BaseFiles) -> Any:
    """Return the base's autoencoder, or the one in its place, frozen and in evaluation mode."""
    lies = files.vae or files.model
    if lies.is_file():
        vae = AutoencoderKL.from_single_file(
            str(lies),
            config=str(files.configs),
            subfolder="vae",
            dtype=torch.float32,
            local_files_only=True,
        )
    else:
        folder = files.vae or files.model / "vae"
        vae = AutoencoderKL.from_pretrained(
            str(folder),
            variant=weights_of(folder, "vae", "vae").variant,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
        )
    return vae.eval().requires_grad_(False)
