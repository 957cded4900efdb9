"""A project's folder in which single stages are called as their commands do.

Importing this takes little memory: a child's peak counts what its parent held when it began.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ruamel.yaml import YAML

_PRESET = Path(__file__).parents[1] / "lcm_lora" / "presets" / "shapes.yaml"


class Project:
    """A project on the shapes base, with a source of a kind."""

    def __init__(self, root: Path, kind: str, pixels: int, count: int = 1) -> None:
        """Write its parameters; `count` is that of scenes, where the source draws them."""
        self.root, self.source = root, root / "source"
        self.source.mkdir()
        params = YAML(typ="safe").load(_PRESET.read_text())
        source = {"kind": kind, "path": "source"}
        params["prepare"] |= {
            "source": {"kind": kind, "count": count, "seed": 1} if kind == "shapes" else source,
            "resolution": pixels,
            "min_side": pixels,
            "held_out": 0.05,
            "selection": 0.01,
        }
        params["evaluation"] |= {"prompts": 24, "selection": 8}
        params["report"] |= {"worst": 12, "rows": 8}
        params["distill"] |= {"steps": 20}
        params["transfer"]["subjects"] = {}
        with (root / "params.yaml").open("w") as file:
            YAML(typ="safe").dump(params, file)

    def prepare(self) -> None:
        """Look and prepare."""
        from lcm_lora.stages import inventory, prepare

        with self._inside():
            inventory.run()
            prepare.run()

    def encode(self) -> None:
        """Encode what was prepared."""
        from lcm_lora.stages import encode

        with self._inside():
            encode.run()

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        before = Path.cwd()
        os.chdir(self.root)
        try:
            yield
        finally:
            os.chdir(before)
