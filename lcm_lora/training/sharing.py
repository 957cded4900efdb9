"""How the samples of a step are shared among processes, and cut to what a device has memory for."""

from __future__ import annotations

import math

import torch

from lcm_lora.device import pick_device
from lcm_lora.errors import UserError
from lcm_lora.params.distill import Distill
from lcm_lora.params.hardware import Hardware
from lcm_lora.training.ranks import Ranks, share


def processes(params: Distill, hardware: Hardware) -> int:
    """Return how many processes share the work.

    Raises:
        UserError: More are asked for than there are GPUs.
    """
    on_gpu = pick_device(hardware).type == "cuda"
    gpus = torch.cuda.device_count() if on_gpu else 1
    wanted = params.processes or min(gpus, params.batch)
    if on_gpu and wanted > gpus:
        raise UserError(
            f"distill.processes: {wanted} are more than the GPUs here, {gpus}; lower it, or set it "
            "to null"
        )
    return wanted


def cuts(params: Distill, ranks: Ranks) -> list[range]:
    """Return the micro-batches of one process, as places within a step's batch.

    None is larger than `accumulation` says, which is what the device has memory for.
    """
    mine = share(range(params.batch), ranks.count, ranks.number)
    parts = math.ceil(len(mine) * params.accumulation / params.batch)
    return [share(mine, parts, part) for part in range(parts)]


def micro_batch(params: Distill, processes: int) -> int:
    """Return how many samples the largest micro-batch of any of so many processes holds."""
    every = (cuts(params, Ranks(number, processes)) for number in range(processes))
    return max(len(cut) for one in every for cut in one)
