"""What a safetensors file says of its tensors, read without them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lcm_lora.errors import UserError

_LONGEST = 100_000_000
"""Bytes of a header, at most; safetensors' own limit."""
_MEND = "fetch it again, or name another base"


_PICKLES = {".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"}


@dataclass(frozen=True, slots=True)
class Header:
    """Names and shapes of a file's tensors, and the texts beside them."""

    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]

    def has(self, prefix: str) -> bool:
        """Tell whether some tensor's name begins so."""
        return any(name.startswith(prefix) for name in self.shapes)


def is_pickle(path: Path) -> bool:
    """Tell by a file's name whether it holds pickled weights, which run code when they are read."""
    return path.suffix.lower() in _PICKLES


def read_header(path: Path, mend: str = _MEND) -> Header:
    """Read the header of a safetensors file, and check that all it promises is there.

    Args:
        path: The file.
        mend: What the user can do if something is wrong with it.

    Raises:
        UserError: It is no such file, or is cut short.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        content = file.read(length) if length <= _LONGEST else b""
    try:
        entries: dict[str, Any] = json.loads(content)
        metadata = entries.pop("__metadata__", {})
        shapes = {name: tuple(entry["shape"]) for name, entry in entries.items()}
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        whole = 8 + length + int(end)
        assert all(isinstance(side, int) and side >= 0 for s in shapes.values() for side in s)
        assert all(math.prod(shape) < 2**40 for shape in shapes.values())
        assert isinstance(metadata, dict)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError):
        raise UserError(f"{path}: no safetensors file, or damaged; {mend}") from None
    except RecursionError:
        raise UserError(f"{path}: no safetensors file; {mend}") from None
    if (size := path.stat().st_size) != whole:
        raise UserError(f"{path}: has {size} bytes where its header says {whole}; {mend}")
    return Header(shapes, metadata)
