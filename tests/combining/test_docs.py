"""The examples of the guide run as they stand there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
from loras import SHAPES, assert_same, deltas, random_lora
from typer.testing import CliRunner

from lcm_lora.adapter_files import WEIGHTS
from lcm_lora.cli import app
from lcm_lora.combining.read import read_lora
from lcm_lora.combining.write import write_lora

GUIDE = Path(__file__).parents[2] / "docs" / "adapter-files.md"


def test_every_example_of_combining_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lora = random_lora(1, ranks=(4,), scales=(0.125,), dtype=torch.float16)
    style = random_lora(2, dict(list(SHAPES.items())[:4]), (3,), dtype=torch.float16)
    write_lora(lora, Path("artifacts/adapter") / WEIGHTS, "kohya", {})
    write_lora(style, Path("ink.safetensors"), "diffusers", {})
    examples = re.findall(r"^lcm-lora (combine .*)$", GUIDE.read_text(), re.M)
    assert len(examples) >= 5
    for example in examples:
        done = CliRunner().invoke(app, shlex.split(example))
        assert done.exit_code == 0, f"{example}: {done.output}"
    for name in ("diffusers.safetensors", "peft", "without.safetensors"):
        assert_same(deltas(lora), deltas(read_lora(Path(name))), 2e-3)
