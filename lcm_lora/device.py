"""Choose where to compute; apart from `bases`, since that takes seconds to import."""

from __future__ import annotations

import torch

from lcm_lora.errors import UserError
from lcm_lora.params import Hardware


def pick_device(hardware: Hardware) -> torch.device:
    """Return the device that the parameters ask for, and set the number of CPU threads.

    Raises:
        UserError: CUDA is asked for and there is none.
    """
    if hardware.threads is not None:
        torch.set_num_threads(hardware.threads)
    if hardware.device == "cuda" and not torch.cuda.is_available():
        raise UserError("hardware.device is cuda, but torch sees no GPU; set it to auto or cpu")
    if hardware.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda")
