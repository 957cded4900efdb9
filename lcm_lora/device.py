"""Choose where to compute; apart from `bases`, since that takes seconds to import."""

from __future__ import annotations

from typing import Any

import torch

from lcm_lora.errors import UserError
from lcm_lora.params.hardware import Hardware


def pick_device(hardware: Hardware, number: int = 0) -> torch.device:
    """Return the device that the parameters ask for, and set the number of CPU threads.

    Args:
        hardware: What the parameters ask for.
        number: Which process of several this is; they take the GPUs in turn.

    Raises:
        UserError: CUDA is asked for and there is none.
    """
    if hardware.threads is not None:
        torch.set_num_threads(hardware.threads)
    if hardware.device == "cuda" and not torch.cuda.is_available():
        raise UserError("hardware.device is cuda, but torch sees no GPU; set it to auto or cpu")
    if hardware.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", number % torch.cuda.device_count())


def decides(device: torch.device) -> dict[str, Any]:
    """Return what of a device decides the last bits: a GPU's name, or how many CPU threads."""
    if device.type == "cuda":
        return {"device": torch.cuda.get_device_name(device)}
    return {"device": device.type, "threads": torch.get_num_threads()}
