"""Whether all numbers in a safetensors file are finite, told by their bits and without torch."""

from __future__ import annotations

import json
from pathlib import Path

_EXPONENTS = {
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
    "F32": ("<u4", 0x7F80_0000),
    "F64": ("<u8", 0x7FF0_0000_0000_0000),
}
"""An integer of a number's width, and its exponent's bits: all ones are infinity or none at all."""


def not_finite(path: Path) -> str | None:
    """Return the name of a tensor that holds NaN or infinity; None where all numbers are finite.

    Args:
        path: A safetensors file that is whole.
    """
    import numpy as np  # heavy beside a look at headers

    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entries = json.loads(file.read(length))
        entries.pop("__metadata__", None)
        for name, entry in entries.items():
            if entry["dtype"] not in _EXPONENTS:
                continue
            kind, exponent = _EXPONENTS[entry["dtype"]]
            start, end = entry["data_offsets"]
            file.seek(8 + length + start)
            bits = np.frombuffer(file.read(end - start), kind)
            if (bits & exponent == exponent).any():
                return str(name)
    return None
