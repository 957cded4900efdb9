"""Serve the demo of a project, for tests that ask it or open its page."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LCM_LORA = Path(sys.executable).with_name("lcm-lora")
VERSION = "lcm-lora-shapes version 7"
"""Of the champion."""


STYLE, OTHER_STYLE = "drawn.safetensors", "other.safetensors"
"""Of the transfer evaluation, and one that is named as the demo starts."""


@dataclass
class Server:
    """A demo that is served by a process of its own."""

    process: subprocess.Popen[str]
    url: str

    @property
    def port(self) -> str:
        return self.url.rsplit(":", 1)[1]


@contextlib.contextmanager
def serving(folder: Path, *options: str) -> Iterator[Server]:
    """Serve the project in a folder at a port that is free."""
    process = subprocess.Popen(
        [LCM_LORA, "demo", "--port", "0", *options],
        cwd=folder,
        text=True,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        lines = iter(process.stderr)
        line = next(line for line in lines if line.startswith(("open ", "error")))
        yield Server(process, line.split()[1].rstrip(";"))
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
