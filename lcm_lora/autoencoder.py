"""A base's autoencoder on its device: all of a base that encoding needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diffusers.utils import logging

from lcm_lora.device import pick_device
from lcm_lora.errors import UserError, reason
from lcm_lora.families.autoencoder import load_vae
from lcm_lora.families.found import BaseInventory
from lcm_lora.inventory.base_files import where_is
from lcm_lora.params.hardware import Hardware


@dataclass(frozen=True, slots=True)
class Autoencoder:
    """The autoencoder of a base."""

    vae: Any
    """A diffusers autoencoder in float32, frozen."""
    name: str
    """The base as the parameters name it."""
    downsampling: int
    """Pixels of a picture's side for each of its latent's."""


def load_autoencoder(found: BaseInventory, hardware: Hardware, number: int = 0) -> Autoencoder:
    """Load the autoencoder of the base that the first look found.

    Args:
        found: Which base.
        hardware: Where it computes.
        number: Which process of several this is; they take the GPUs in turn.

    Raises:
        UserError: It cannot be loaded.
    """
    logging.disable_progress_bar()
    files, device = where_is(found), pick_device(hardware, number)
    try:
        vae = load_vae(files)
    except Exception as error:  # there is no end to what parsers raise of a broken file
        raise UserError(
            f"base.model {found.model}: its autoencoder cannot be loaded ({reason(error)}); mend "
            "its files, or name another as base.vae"
        ) from error
    return Autoencoder(vae.to(device), found.model, found.structure.downsampling)
