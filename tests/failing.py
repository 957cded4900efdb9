"""A file system in memory that fails on purpose, as far ones do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class Failing(MemoryFileSystem):
    """Fails at its nth write from now, halfway; addressed as failing://bucket/folder."""

    protocol = "failing"
    writes_left = 10**9

    def put_file(self, lpath: str, rpath: str, **options: Any) -> None:
        self.pipe_file(rpath, Path(lpath).read_bytes())

    def pipe_file(self, path: str, value: bytes, *more: Any, **options: Any) -> None:
        Failing.writes_left -= 1
        if Failing.writes_left == 0:
            super().pipe_file(path, value[: len(value) // 2], *more, **options)
            raise TimeoutError("the network is gone")
        super().pipe_file(path, value, *more, **options)


fsspec.register_implementation("failing", Failing)
