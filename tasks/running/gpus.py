"""The GPUs that a child process of this one would see, and what they have drawn so far.

By NVML, the driver's own library, where the package nvidia-ml-py and a driver are there; torch need
not be imported, and no memory on a device is taken.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, or a part of one that counts as one."""

    name: str
    """Such as `NVIDIA H100 80GB HBM3`."""
    joules: float | None
    """Drawn since the driver was loaded; None where the device does not say."""


def visible() -> list[Gpu]:
    """Return the GPUs that CUDA would see, in its order; none where there is no driver."""
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        return [_look_at(pynvml, handle) for handle in _handles(pynvml)]
    finally:
        pynvml.nvmlShutdown()


def _handles(nvml: Any) -> Iterator[Any]:
    """Yield a handle of each device that CUDA_VISIBLE_DEVICES names, all if it names none."""
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        names = [str(i) for i in range(nvml.nvmlDeviceGetCount())]
    else:
        names = [name.strip() for name in wanted.split(",")]
    for name in names:
        try:
            if name.isdecimal():
                yield nvml.nvmlDeviceGetHandleByIndex(int(name))
            else:
                yield nvml.nvmlDeviceGetHandleByUUID(name)
        except nvml.NVMLError:
            return  # as CUDA does: what follows a name that is none is not seen


def _look_at(nvml: Any, handle: Any) -> Gpu:
    try:
        joules = nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000
    except nvml.NVMLError:  # an old device, or a part of one
        joules = None
    return Gpu(str(nvml.nvmlDeviceGetName(handle)), joules)
