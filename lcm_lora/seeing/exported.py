"""Run a network from a file of `torch.export` (.pt2) without giving the file to `torch.export`.

`torch.export.load` unpickles, imports, evaluates and compiles what the file says: its names become
Python source. Here a file is a list of calls: each names one of torch's tensor operators, which is
looked up, and its arguments, which are looked up by name in a dictionary. None of its text becomes
source, an expression, an import or a path. The operators guard their own arguments, no more.

Format: `torch/_export/serde/schema.py`, major version 8.
"""

from __future__ import annotations

import json
import operator
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_FORMAT = 8

_OPERATOR = re.compile(r"torch\.ops\.aten\.([A-Za-z_]\w*)\.([A-Za-z]\w*)", re.ASCII)
_OF_SIZES = {
    f"_operator.{name}": getattr(operator, name)
    for name in ("add", "sub", "mul", "floordiv", "mod", "neg", "eq", "ne", "lt", "le", "gt", "ge")
}
_WORDS = {"approximate", "assert_msg", "equation", "indexing", "mode", "ord", "padding", "reduce"}
_WORDS |= {"rounding_mode", "side"}
"""Arguments that may be text; others are names of files (`aten.save`, `aten.from_file`)."""

_DTYPES = {
    **{1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64},
    **{6: torch.float16, 7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16},
}
_MEMORY = dict(
    enumerate(
        (
            torch.contiguous_format,
            torch.channels_last,
            torch.channels_last_3d,
            torch.preserve_format,
        ),
        start=1,
    )
)
_LAYOUTS = {7: torch.strided}
_SYMBOL = re.compile(r"Symbol\('(\w+)'(?:, \w+=(?:True|False))*\)")

Values = dict[str, Any]


class _Name(str):
    """Stands in an argument for a value that was computed or given before."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class _Call:
    operator: Callable[..., Any]
    places: tuple[Any, ...]
    arguments: dict[str, Any]
    results: Any
    """Nested lists of names as the operator's result is nested; None where nobody needs it."""
    done: tuple[str, ...]
    """Values that no later call takes."""


@dataclass(frozen=True, slots=True)
class Exported:
    """The calls between pictures, [B, 3, S, S], and features."""

    tensors: Mapping[str, Tensor]
    calls: tuple[_Call, ...]
    pictures: str
    sizes: tuple[tuple[int, int], ...]
    """The least and the greatest of each size of the pictures."""
    features: str

    def __call__(self, pictures: Tensor) -> Any:
        """Return what the network gives.

        Raises:
            ValueError: It was exported for pictures of other sizes, or another number of them.
            Exception: Whatever an operator says.
        """
        ranges = self.sizes
        fits = [least <= s <= most for s, (least, most) in zip(pictures.shape, ranges, strict=True)]
        if not all(fits):
            raise ValueError(f"was exported for sizes {list(ranges)}, not {list(pictures.shape)}")
        values: Values = {**self.tensors, self.pictures: pictures}
        for call in self.calls:
            places = [_filled(place, values) for place in call.places]
            arguments = {name: _filled(value, values) for name, value in call.arguments.items()}
            _keep(call.results, call.operator(*places, **arguments), values)
            for name in call.done:
                values.pop(name, None)
        return values[self.features]


def load_exported(path: Path, device: torch.device) -> Exported:
    """Return the network in a file that `torch.export.save` wrote.

    Raises:
        ValueError: The file holds something else than tensors and calls of operators.
        Exception: Whatever is said of a broken one.
    """
    with zipfile.ZipFile(path) as archive:
        members = {name.partition("/")[2]: name for name in archive.namelist()}

        def read(place: str) -> bytes:
            if place not in members:
                raise ValueError(f"holds no {place}")
            return archive.read(members[place])

        program = json.loads(read("models/model.json"))
        if program["schema_version"]["major"] != _FORMAT:
            raise ValueError("is of another torch; export it with this one")
        kept = _tensors(read, "data/weights/", "model_weights_config.json", device)
        kept |= _tensors(read, "data/constants/", "model_constants_config.json", device)
    return _program(program, kept, device)


def _tensors(
    read: Callable[[str], bytes], folder: str, config: str, device: torch.device
) -> dict[str, Tensor]:
    """Return the tensors of a folder of the archive, by the network's names for them."""
    contents: dict[str, bytearray] = {}
    found = {}
    for name, entry in json.loads(read(folder + config))["config"].items():
        member = str(entry["path_name"])
        if entry["use_pickle"] is not False or not re.fullmatch(r"(weight|tensor)_\d+", member):
            raise ValueError(f"{name[:60]} is no plain tensor")
        if member not in contents:
            contents[member] = bytearray(read(folder + member))
        found[name] = _tensor(contents[member], entry["tensor_meta"]).to(device)
    return found


def _tensor(content: bytearray, meta: Any) -> Tensor:
    dtype = _DTYPES[meta["dtype"]]
    flat = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
    sizes, strides = ([size["as_int"] for size in meta[key]] for key in ("sizes", "strides"))
    return flat.as_strided(sizes, strides, meta["storage_offset"]["as_int"])


def _program(program: Any, kept: dict[str, Tensor], device: torch.device) -> Exported:
    module = program["graph_module"]
    graph, signature = module["graph"], module["signature"]
    tensors, given = _inputs(signature["input_specs"], kept)
    pictures, features = _only(given, "takes"), _only(_outputs(signature), "gives")
    sizes = graph["tensor_values"][pictures]["sizes"]
    return Exported(
        tensors,
        _calls(graph["nodes"], features, set(tensors), device),
        pictures,
        tuple(_range(size, program["range_constraints"]) for size in sizes),
        features,
    )


def _inputs(specs: Any, kept: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[Any]]:
    """Return the tensors that belong to the network, by the calls' names, and what it takes."""
    tensors, given = {}, []
    for kind, spec in (_one(spec) for spec in specs):
        if kind == "user_input":
            given.append(spec["arg"])
        elif kind in ("parameter", "buffer", "tensor_constant"):
            tensors[spec["arg"]["name"]] = kept[spec[f"{kind}_name"]]
        else:
            raise ValueError("takes or gives more than tensors")
    return tensors, given


def _outputs(signature: Any) -> list[Any]:
    specs = [_one(spec) for spec in signature["output_specs"]]
    if any(kind != "user_output" for kind, _ in specs):
        raise ValueError("changes itself; export it in eval()")
    return [spec["arg"] for _, spec in specs]


def _only(arguments: list[Any], does: str) -> str:
    """Return the name of the one tensor among what the network takes or gives."""
    if len(arguments) != 1 or _one(arguments[0])[0] != "as_tensor":
        raise ValueError(f"{does} something else than one tensor")
    return str(arguments[0]["as_tensor"]["name"])


def _range(size: Any, ranges: Any) -> tuple[int, int]:
    """Return the least and the greatest a size may be; torch lets 0 and 1 pass as any number."""
    kind, value = _one(size)
    if kind == "as_int":
        return int(value), int(value)
    symbol = _SYMBOL.fullmatch(value["expr_str"])
    known = ranges.get(symbol[1], {}) if symbol else {}
    least, most = known.get("min_val") or 0, known.get("max_val")
    return (least if least > 2 else 0), 2**63 if most is None else most


def _calls(nodes: Any, features: str, kept: set[str], device: torch.device) -> tuple[_Call, ...]:
    """Return the calls; each lets go of what is not taken after it, as of large activations."""
    calls, needed = [], kept | {features}
    for node in reversed(nodes):
        found = _found(str(node["target"]))
        values = [(i["name"], _argument(*_one(i["arg"]), device)) for i in node["inputs"]]
        results = _results(node["outputs"])
        names = set(_names([value for _, value in values])) | set(_names(results))
        done = tuple(sorted(names - needed))
        needed |= names
        if isinstance(found, torch._ops.OpOverload):
            # By the operator's own names of them, so that the file cannot say a wrong one.
            calls.append(_Call(found, (), dict(values), results, done))
        else:
            calls.append(_Call(found, tuple(value for _, value in values), {}, results, done))
    return tuple(reversed(calls))


def _found(target: str) -> Callable[..., Any]:
    """Return the operator of a name; those of files and of torch's own internals are none."""
    if target in _OF_SIZES:
        of_sizes: Callable[..., Any] = _OF_SIZES[target]
        return of_sizes
    name = _OPERATOR.fullmatch(target)
    packet = getattr(torch.ops.aten, name[1], None) if name else None
    found = getattr(packet, name[2], None) if name else None
    if not isinstance(found, torch._ops.OpOverload) or not _is_plain(found):
        raise ValueError(f"calls {target[:60]}, no operator of torch that a network needs")
    return found


def _is_plain(found: torch._ops.OpOverload) -> bool:
    name = found.name()
    texts = {a.name for a in found._schema.arguments if "str" in str(a.real_type)}
    inner = name.startswith("aten::_") and not name.startswith("aten::_assert_")
    return (
        torch._C._dispatch_has_kernel(name)
        and texts <= _WORDS
        and (not inner or torch.Tag.core in found.tags)
    )


def _argument(kind: str, value: Any, device: torch.device) -> Any:
    """Return an argument of a call; computed values are a `_Name`."""
    match kind:
        case "as_tensor":
            return _Name(value["name"])
        case "as_name":
            return _Name(value)
        case "as_none":
            return None
        case "as_int" | "as_bool" | "as_string" | "as_ints" | "as_bools":
            return value
        case "as_float":
            return float(value)  # JSON has it as a word where it is not finite
        case "as_floats":
            return [float(number) for number in value]
        case "as_tensors":
            return [_Name(tensor["name"]) for tensor in value]
        case "as_sym_int" | "as_sym_bool" | "as_sym_float" | "as_optional_tensor":
            return _argument(*_one(value), device)
        case "as_sym_ints" | "as_sym_bools" | "as_sym_floats" | "as_optional_tensors":
            return [_argument(*_one(entry), device) for entry in value]
        case "as_scalar_type":
            return _DTYPES[value]
        case "as_memory_format":
            return _MEMORY[value]
        case "as_layout":
            return _LAYOUTS[value]
        case "as_device":
            return device
    raise ValueError(f"calls an operator with {kind[:60]}, not a tensor or number")


def _results(outputs: Any) -> Any:
    found = [_argument(*_one(output), torch.device("cpu")) for output in outputs]
    return found[0] if len(found) == 1 else found


def _one(union: Any) -> tuple[str, Any]:
    """Return the key and the value of a union, which has one."""
    ((kind, value),) = union.items()
    return kind, value


def _names(argument: Any) -> Iterator[str]:
    if isinstance(argument, list):
        for entry in argument:
            yield from _names(entry)
    elif isinstance(argument, _Name):
        yield argument


def _filled(argument: Any, values: Values) -> Any:
    """Return an argument with values in place of their names."""
    if isinstance(argument, list):
        return [_filled(entry, values) for entry in argument]
    return values[argument] if isinstance(argument, _Name) else argument


def _keep(names: Any, result: Any, values: Values) -> None:
    if isinstance(names, _Name):
        values[names] = result
    elif isinstance(names, list):
        for name, part in zip(names, result if names else (), strict=True):
            _keep(name, part, values)
