"""Write files and folders so that a reader finds the old content or the new, never a half."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from lcm_lora.locks import hold, is_held

if TYPE_CHECKING:
    from torch import Tensor

_CHUNK = 1 << 20
"""Bytes that are copied at a time."""


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Name the file in an error of the block, as writing to an open file does not."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step."""
    with _replacing(path) as file:
        file.write(content)


def copy(source: Path, target: Path) -> None:
    """Replace `target` by a copy of the file `source` in one step."""
    with source.open("rb") as content, _replacing(target) as file:
        shutil.copyfileobj(content, file, _CHUNK)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield an open file that takes the place of `path` if the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with named(path), os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as JSON with sorted keys; NaN and infinity are refused."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    write_bytes(path, (text + "\n").encode())


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Replace `path` by tensors as safetensors; equal calls write equal bytes.

    Raises:
        OSError: There is no space; safetensors' own writer would say so in words of its own.
    """
    from safetensors.torch import save

    owned = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, _sorted_header(save(owned, dict(metadata) if metadata else None)))


def _sorted_header(content: bytes) -> bytes:
    """Return a safetensors file with its metadata sorted; safetensors' own order is random."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the format wants the tensors aligned
    return len(text).to_bytes(8, "little") + text + content[start:]


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `path` if the block ends well, and vanishes otherwise.

    What a killed process left of the same folder vanishes first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_leftovers(path)
    made = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    held = hold(made)
    try:
        yield made
        for entry in [made, *made.rglob("*")]:  # some writers let the owner alone read
            readable = 0o755 if entry.is_dir() else 0o444
            if entry.stat().st_mode & readable != readable:
                entry.chmod(0o755 if entry.is_dir() else 0o644)
        if path.exists():
            shutil.rmtree(path)
        made.rename(path)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    finally:
        if held is not None:
            os.close(held)


def clear_leftovers(path: Path) -> None:
    """Remove the half-made folders of `path` whose makers are dead: those hold them no more."""
    half_made = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}")  # as tempfile names them
    for entry in path.parent.iterdir():
        if half_made.fullmatch(entry.name) and entry.is_dir() and not is_held(entry):
            shutil.rmtree(entry, ignore_errors=True)


def clear_others(place: Path, names: Collection[str]) -> list[Path]:
    """Remove the folders in `place` with other names, and what killed runs left; return the first.

    Files stay, such as DVC's .gitignore.
    """
    gone = []
    for entry in sorted(place.iterdir()) if place.is_dir() else ():
        if entry.name.startswith("."):
            if entry.is_dir() and not is_held(entry):
                shutil.rmtree(entry, ignore_errors=True)
        elif entry.is_dir() and entry.name not in names:
            shutil.rmtree(entry)
            gone.append(entry)
    return gone


def link(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`: by a link, or by a copy where links cannot be.

    Both are then one: neither may be written to, only replaced.
    """
    source = source.resolve()
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's relative names and contents, in hex."""
    if path.is_file():
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{sha256(file)}\n".encode())
    return digest.hexdigest()
