"""Rehearse a preset: every stage on the full-size architecture with random weights.

Few and small pictures, on whatever machine is at hand; on a GPU at the preset's own resolution,
batch and precision. It takes a folder of its own and measures each stage as a process.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ruamel.yaml import YAML

from lcm_lora import layout
from lcm_lora.families.family import FAMILIES, FamilyName
from tasks.running.graph import TRANSFER_FLOW, but, plan

_ROOT = Path(__file__).parents[1]
_BIN = Path(sys.executable).parent
_CARRIED = ("dvc.yaml", "prefect.yaml", ".gitignore", "flows", "tasks", "lcm_lora", "bench")
_FAMILIES: dict[str, FamilyName] = {"sd15": "sd1", "ssd1b": "ssd1b", "sdxl": "sdxl"}
_PIXELS = 256
"""On a CPU: a sixteenth of the work of 1,024."""


def main() -> None:
    """Rehearse the preset that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("preset", choices=_FAMILIES)
    parser.add_argument("--folder", type=Path, default=Path(".rehearsal"))
    asked = parser.parse_args()
    root = asked.folder.resolve() / asked.preset
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    began = time.monotonic()
    _project(root, asked.preset)
    _timed("base", lambda: _write_base(root, asked.preset))
    doctor = [str(_BIN / "lcm-lora"), "doctor"]
    subprocess.run(doctor, cwd=root, env=_environment(root), check=True)
    for stage in but(plan(root), TRANSFER_FLOW):
        command = [str(_BIN / "dvc"), "repro", "--quiet", "--single-item", stage.name]
        _timed(stage.name, lambda command=command: _run(command, root))
    flow = [sys.executable, "-m", "flows.retrain"]
    _timed("register", lambda: _run(flow, root))
    log = (root / "rehearsal.log").read_text().splitlines()
    print(*(line for line in log if line.startswith("distill:")), sep="\n")
    base = sum(file.stat().st_size for file in (root / "base").rglob("*.safetensors"))
    adapter = (root / layout.ADAPTER / "pytorch_lora_weights.safetensors").stat().st_size
    print(f"base {base / 1e9:.2f} GB, adapter {adapter / 1e6:.1f} MB")
    print(f"in all {(time.monotonic() - began) / 60:.1f} minutes")
    shutil.rmtree(root)


def _project(root: Path, preset: str) -> None:
    """Write a project of its own, without git: the code that runs is the code that is here."""
    for name in _CARRIED:
        copy = shutil.copytree if (_ROOT / name).is_dir() else shutil.copy
        copy(_ROOT / name, root / name)
    subprocess.run([str(_BIN / "dvc"), "init", "--quiet", "--no-scm"], cwd=root, check=True)
    yaml = YAML(typ="safe")
    params = yaml.load((_ROOT / "lcm_lora" / "presets" / f"{preset}.yaml").read_text())
    shrink(params, torch.cuda.is_available())
    with (root / layout.PARAMS).open("w") as file:
        yaml.dump(params, file)


def shrink(params: dict[str, Any], on_gpu: bool) -> None:
    """Keep the preset's networks and adapter, and make all else few and small."""
    params["base"] |= {"model": "base", "revision": None}
    pixels = params["prepare"]["resolution"] if on_gpu else _PIXELS
    params["prepare"] |= {
        "source": {"kind": "shapes", "count": 64 if on_gpu else 40, "seed": 1},
        "resolution": pixels,
        "min_side": pixels,
        "held_out": 0.4,
        "selection": 0.3,
    }
    params["evaluation"] |= {"prompts": 4, "selection": 8}
    params["distill"] |= {
        "steps": 20 if on_gpu else 2,
        "checkpoint_every": 20 if on_gpu else 2,
        "candidates": {"first": 20 if on_gpu else 2, "every": 20},
    }
    if not on_gpu:
        params["hardware"] |= {"device": "cpu", "precision": "fp32"}
        params["encode"]["batch"] = 4
        params["select"]["batch"] = params["generate"]["batch"] = 2
        params["distill"] |= {"batch": 1, "accumulation": 1}
    guided, plain = {"steps": 1, "guidance": 7.0}, {"steps": 1, "guidance": 1.0}
    many = {"steps": 2, "guidance": 7.0}
    solvers = {name: {"sampler": name, "cells": [guided]} for name in ("ddim", "dpmpp", "unipc")}
    params["generate"] |= {
        "adapter": {"sampler": "lcm", "cells": [plain, {"steps": 2, "guidance": 1.0}]},
        "painters": {
            "teacher": {"sampler": "ddim", "cells": [many, many | {"seeds": 1}]},
            **solvers,
        },
    }
    networks = {"shapes": {"kind": "shapes"}}
    params["score"] |= {"networks": networks, "clip": "shapes", "attributes": False}
    params["select"] |= {"metric": "clip_score", "steps": 1}
    params["report"] |= {"rows": 2, "worst": 2}
    rule = {
        "steps": 2,
        "guidance": 1.0,
        "limits": {},
        "target": {},
        "guards": {"clip_score": 100.0},
    }
    params["registry"]["gate"] = [rule]


def _write_base(root: Path, preset: str) -> tuple[float, int]:
    """Write the base in a process of its own, whose memory is its own too."""
    program = (
        "import sys; from pathlib import Path; from bench.random_base import write_base\n"
        "from lcm_lora.families.family import FAMILIES\n"
        f"write_base(FAMILIES[{FAMILIES[_FAMILIES[preset]].name!r}], Path(sys.argv[1]))\n"
    )
    return _run([sys.executable, "-c", program, str(root / "base")], root)


def _timed(name: str, run: Callable[[], tuple[float, int]]) -> None:
    seconds, peak = run()
    print(f"{name:<20} {seconds:7.1f} s  {peak / 1e6:6.2f} GB at its fullest", flush=True)


def _run(command: list[str], folder: Path) -> tuple[float, int]:
    """Run a command; return its seconds and the kilobytes of its largest process.

    Its own words go to a log beside, and are shown if it fails.
    """
    log = folder / "rehearsal.log"
    began = time.monotonic()
    with log.open("ab") as out:
        child = subprocess.Popen(
            command, cwd=folder, env=_environment(folder), stdout=out, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.stderr.write(log.read_text())
        raise SystemExit(f"{' '.join(command)}: ended with status {status}")
    return time.monotonic() - began, usage.ru_maxrss


def _environment(folder: Path) -> dict[str, str]:
    """Let commands run the code in the project's folder, whatever happens to ours meanwhile."""
    path = f"{_BIN}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(folder)}


if __name__ == "__main__":
    main()
