"""What a version was made of, and the way back to its bytes."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lcm_lora import layout
from lcm_lora.adapter_files import WEIGHTS
from lcm_lora.errors import UserError
from lcm_lora.files import write_bytes
from lcm_lora.params.file import load_params
from lcm_lora.params.plain import read_yaml
from lcm_lora.store import ENVIRONMENT as STORE
from tasks.registry.aliases import CHAMPION
from tasks.registry.evidence import LOCK, Evidence, Lineage
from tasks.running.graph import entries, touch
from tasks.tracking.results import flatten

_PRESETS = Path(layout.__file__).parent / "presets"
_LONGEST = 60
"""Letters that are told of a parameter."""
_SETTINGS = (layout.PARAMS.name, LOCK)
"""What a version's own state of a project consists of, beside its commit."""


def champion_of(root: Path) -> str:
    """Return the reference of the champion of the project in the folder `root`.

    Raises:
        UserError: There is no project.
    """
    return f"models:/{load_params(root / layout.PARAMS).registry.name}@{CHAMPION}"


def restore(evidence: Evidence, folder: Path) -> None:
    """Write params.yaml and dvc.lock of a version into a folder, so that DVC has its state there.

    Raises:
        UserError: The evidence is damaged, or parameters there are in no commit and would be lost.
    """
    kept = {name: evidence.file(name).read_bytes() for name in _SETTINGS}
    params = folder / layout.PARAMS
    if _would_be_lost(params, kept[layout.PARAMS.name]):
        raise UserError(f"{params}: has changes that no commit has; commit them, or move it away")
    for name, content in kept.items():
        write_bytes(folder / name, content)


def _would_be_lost(path: Path, content: bytes) -> bool:
    if not path.exists() or path.read_bytes() == content:
        return False
    command = ["git", "status", "--porcelain", "--", path.name]
    done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, check=False)
    return bool(done.returncode or done.stdout.strip())


def differences(params: Path) -> tuple[str, list[str]]:
    """Return the preset that a parameter file is nearest to, and where the file differs from it.

    Nothing is checked: what an old version was made with may be no parameter any more.
    """
    own = dict(flatten(read_yaml(params)))
    presets = {path.stem: dict(flatten(read_yaml(path))) for path in _PRESETS.glob("*.yaml")}
    differing = {
        preset: [
            f"{name} {own.get(name, 'not there')}"[:_LONGEST]
            for name in sorted({*own, *values})
            if own.get(name) != values.get(name)
        ]
        for preset, values in presets.items()
    }
    nearest = min(differing, key=lambda preset: len(differing[preset]))
    return nearest, differing[nearest]


def commands(registry: str, reference: str, lineage: Lineage, lock: Path) -> list[str]:
    """Return the commands that make a version's adapter again from its data, to the last bit.

    Args:
        registry: MLflow's address, as it may be shown.
        reference: Of the version.
        lineage: Its own.
        lock: Its dvc.lock.
    """
    made = entries(lock)
    stages = [_maker(made, output) for output in (layout.CANDIDATES, layout.ADAPTER)]
    origin = lineage.git_remote or "THE-REPOSITORY"
    return [
        f"git clone {shlex.quote(origin)} again && cd again",
        f"git checkout {lineage.git_commit}",
        f"MLFLOW_TRACKING_URI={shlex.quote(registry)} lcm-lora lineage {shlex.quote(reference)} "
        "--into .",
        f"dvc pull {' '.join(map(shlex.quote, _needed(made, stages)))}",
        # Without the store, where the finished training itself may be.
        *(f"{STORE}= dvc repro --force --single-item {stage}" for stage in stages),
        f"echo '{lineage.adapter_sha256}  {layout.ADAPTER / WEIGHTS}' | sha256sum --check",
    ]


def _maker(made: Mapping[str, Mapping[str, Any]], output: Path) -> str:
    for stage, entry in made.items():
        if any(Path(out["path"]) == output for out in entry["outs"]):
            return stage
    raise UserError(f"{LOCK}: does not name {output}, so it is of another graph than this one")


def _needed(made: Mapping[str, Mapping[str, Any]], stages: list[str]) -> list[str]:
    """Return the outputs of other stages that these stages read."""
    read = [Path(dep["path"]) for stage in stages for dep in made[stage].get("deps", [])]
    others = [out["path"] for name in made if name not in stages for out in made[name]["outs"]]
    return [path for path in others if any(touch(Path(path), dep) for dep in read)]
