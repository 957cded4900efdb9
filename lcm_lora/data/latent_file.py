"""Read single rows of a file of latents where they lie."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DTYPES = {"F16": np.float16, "I32": np.int32, "I64": np.int64, "U8": np.uint8}


class LatentFile:
    """A safetensors file whose rows are read where they lie.

    A mapped file would do, but what it touched counts as memory of the process, more with every
    step; and a thousand open files are more than most systems allow.
    """

    def __init__(self, path: Path) -> None:
        """Read what the file says of its tensors."""
        self._path = path
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            self._header: dict[str, Any] = json.loads(file.read(size))
        self._start = 8 + size

    def sample(self, row: int) -> dict[str, NDArray[Any]]:
        """Return `mean`, `std`, `time_ids` of a row, and `caption` as UTF-8."""
        handle = os.open(self._path, os.O_RDONLY)
        try:
            first = int(self._rows(handle, "ends", row - 1, row)[0]) if row else 0
            last = int(self._rows(handle, "ends", row, row + 1)[0])
            sample = {
                name: self._rows(handle, name, row, row + 1)[0]
                for name in ("mean", "std", "time_ids")
            }
            return sample | {"caption": self._rows(handle, "captions", first, last)}
        finally:
            os.close(handle)

    def _rows(self, handle: int, name: str, first: int, last: int) -> NDArray[Any]:
        entry = self._header[name]
        dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), entry["shape"][1:]
        size = dtype.itemsize * math.prod(shape)
        place = self._start + entry["data_offsets"][0] + first * size
        return np.frombuffer(os.pread(handle, (last - first) * size, place), dtype).reshape(
            -1, *shape
        )
