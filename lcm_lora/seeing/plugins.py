"""Metrics that cannot live here: a command of its own environment looks at a folder of pictures.

See docs/plugins.md for the contract.

Legend: N pictures.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from lcm_lora.errors import UserError
from lcm_lora.hashes import Hashes
from lcm_lora.params.score import Plugin
from lcm_lora.processes import die_with_parent
from lcm_lora.records import Record, read_record
from lcm_lora.seeing.image_sets import ImageSet
from lcm_lora.seeing.network_files import plugin_record
from lcm_lora.seeing.set_records import NetworkRecord

PROMPTS, METRICS = "prompts.jsonl", "metrics.json"

_TAIL = 4096
"""Bytes at the end of what a command says, in which its last line is looked for."""
_SHORTEST, _LONGEST = 0.001, 0.1
"""Seconds between two looks whether a command has ended."""
_LARGEST = float(np.finfo(np.float32).max)


class PluginMetrics(Record):
    """What a plug-in measured: one finite number a picture."""

    model_config = ConfigDict(extra="ignore")
    values: tuple[Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)], ...]


def plugin_records(plugins: Mapping[str, Plugin], hashes: Hashes) -> dict[str, NetworkRecord]:
    """Return who measures, by the plug-ins' names."""
    return {name: plugin_record(name, plugin, hashes) for name, plugin in plugins.items()}


def measure_with(name: str, plugin: Plugin, images: ImageSet) -> NDArray[np.float32]:
    """Return a plug-in's values of an image set, float32 [N]; pictures lie in TMPDIR meanwhile.

    Args:
        name: Of the plug-in.
        plugin: Its command.
        images: N pictures and captions.

    Raises:
        UserError: The command fails, takes too long, or writes something else than N numbers.
    """
    where = f"score.plugins.{name}"
    with tempfile.TemporaryDirectory() as folder:
        pictures, metrics = Path(folder) / "pictures", Path(folder) / METRICS
        _unpack(images, pictures)
        _run(where, plugin, [str(pictures.resolve()), str(metrics.resolve())])
        if not metrics.is_file():
            raise UserError(f"{where}: wrote no {METRICS}; mend the command, see docs/plugins.md")
        found = _read(where, metrics)
    count = len(images.captions)
    if len(found) != count:
        raise UserError(
            f"{where}: {len(found)} values for {count} pictures of {images.painter}/{images.name};"
            " write one a picture, in the order of their names"
        )
    return np.asarray(found, np.float32)


def _unpack(images: ImageSet, folder: Path) -> None:
    """Write pictures and captions as the command finds them."""
    folder.mkdir()
    lines = []
    for (index, png), prompt in zip(images.pngs(), images.captions, strict=True):
        file = f"{index:08d}.png"
        (folder / file).write_bytes(png)
        lines.append(json.dumps({"file": file, "prompt": prompt}, ensure_ascii=False) + "\n")
    (folder / PROMPTS).write_text("".join(lines), encoding="utf-8")


def _run(where: str, plugin: Plugin, paths: list[str]) -> None:
    """Run the command to its end; none of its process group is left, however it ends.

    A process that it puts into a session of its own (`setsid`, a daemon) is out of reach.
    """
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                [*plugin.command, *paths],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=functools.partial(die_with_parent, os.getpid()),
            )
        except OSError as error:
            raise UserError(
                f"{where}: {plugin.command[0]} cannot be run ({error.strerror}); mend the command"
            ) from None
        with _ended(process):
            if not _done(process, plugin.seconds):
                raise UserError(
                    f"{where}: not done after {plugin.seconds:g} s; mend it, or raise its seconds"
                )
        if status := process.returncode:
            said.seek(max(0, said.seek(0, os.SEEK_END) - _TAIL))
            raise UserError(f"{where}: {_status(status)}{_last_line(said.read())}; mend it")


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """End a process and all of its group when the block ends.

    The process is reaped last: until then nobody else can get its number, so that the group that
    is ended is its own.
    """
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _done(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait until a process has ended, without reaping it; return whether it did in time."""
    end, pause = time.monotonic() + seconds, _SHORTEST
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        left = end - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST)
    return True


def _status(status: int) -> str:
    if status < 0:
        return f"ended by signal {-status}"
    return f"ended with exit code {status}"


def _last_line(said: bytes) -> str:
    lines = [line.strip() for line in said.decode(errors="replace").splitlines()]
    last = next((line for line in reversed(lines) if line), "")
    shown = "".join(letter if letter.isprintable() else "?" for letter in last[:200])
    return f" ({shown})" if shown else ""


def _read(where: str, path: Path) -> tuple[float, ...]:
    try:
        return read_record(path, PluginMetrics, "see docs/plugins.md").values
    except UserError as error:  # the file is gone when the user reads this
        raise UserError(f"{where}: {str(error).removeprefix(f'{path.parent}/')}") from None
