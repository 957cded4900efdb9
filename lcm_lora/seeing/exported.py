"""Load a network from a file of `torch.export` (.pt2) without unpickling or running what it says.

`torch.export.load` unpickles sample inputs and odd tensors, evaluates expressions as Python, and
loads compiled libraries, whatever the file holds. So it gets a copy that holds none of it: plain
tensors, sizes of a known form, and calls of torch's own operators.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

_PLAIN = re.compile(
    r"archive_format|archive_version|byteorder|\.data/version"
    r"|data/weights/weight_\d+|data/constants/tensor_\d+"
)
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_PROGRAM, _SAMPLES = "models/model.json", "data/sample_inputs/model.pt"

_PAYLOAD = re.compile(r"(weight|tensor)_\d+")
_TARGET = re.compile(
    r"torch\.ops\.aten\.(?!from_file\b)\w+\.\w+"
    r"|_operator\.(add|sub|mul|floordiv|mod|neg|pow|eq|ne|lt|le|gt|ge|getitem)"
)
_SIZE = re.compile(
    r"(?:Symbol\('\w+'(?:, \w+=(?:True|False))*\)|Integer|Add|Mul|Pow|Max|Min|FloorDiv|Mod"
    r"|PythonMod|CleanDiv|[\d\s,()+*/-])+"
)


def load_exported(path: Path, device: torch.device) -> nn.Module:
    """Return the network in a file that `torch.export.save` wrote.

    Raises:
        ValueError: The file holds something else than tensors, sizes and operators.
        Exception: Whatever torch says of a broken one.
    """
    program = torch.export.load(io.BytesIO(_plain_copy(path)))
    if device.type != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    return program.module()


def _plain_copy(path: Path) -> bytes:
    """Return the archive without all that would be more than read."""
    copy = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(copy, "w") as plain:
        for name in archive.namelist():
            place = name.partition("/")[2]
            if place == _PROGRAM:
                plain.writestr(name, json.dumps(_checked_program(json.loads(archive.read(name)))))
            elif place == _SAMPLES:
                plain.writestr(name, b"")
            elif place in _CONFIGS:
                plain.writestr(name, json.dumps(_checked_config(json.loads(archive.read(name)))))
            elif _PLAIN.fullmatch(place):
                plain.writestr(name, archive.read(name))
    return copy.getvalue()


def _checked_config(config: Any) -> Any:
    for name, entry in config["config"].items():
        if entry["use_pickle"] or not _PAYLOAD.fullmatch(entry["path_name"]):
            raise ValueError(f"{name} is no plain tensor")
    return config


def _checked_program(program: Any) -> Any:
    """Return the program without its guards, which are Python, and what it says of its origin."""
    if re.search("__enum__|defaultdict", json.dumps(program)):
        raise ValueError("takes or gives more than tensors")
    for key, value in _entries(program):
        if key == "target" and not _TARGET.fullmatch(str(value)):
            raise ValueError(f"calls {str(value)[:60]}, no operator of torch")
        if key == "expr_str" and not _SIZE.fullmatch(str(value)):
            raise ValueError(f"has a size of {str(value)[:60]}")
    for node in program["graph_module"]["graph"]["nodes"]:
        node["metadata"] = {}
    return program | {"guards_code": []}


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key and value in JSON, however deep."""
    pending = [value]
    while pending:
        entry = pending.pop()
        if isinstance(entry, dict):
            yield from entry.items()
            pending.extend(entry.values())
        elif isinstance(entry, list):
            pending.extend(entry)
