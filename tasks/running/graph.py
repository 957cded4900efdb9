"""Read dvc.yaml into a plan: the stages, what each waits for, and whether DVC would run it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage import PipelineStage
from ruamel.yaml import YAML, YAMLError

from lcm_lora.errors import UserError

TRANSFER_FLOW = "transfer"
"""The flow whose stages, by `meta.flow`, try the new adapter elsewhere."""

_ALWAYS = "always changed"
_NOT_HERE = ("deleted", "not in cache")
"""What DVC says of stages that always run, and of files that are known and not here."""


@dataclass(frozen=True)
class Stage:
    """One stage of dvc.yaml."""

    name: str
    upstream: tuple[str, ...]
    """Stages whose outputs it reads."""
    outputs: Mapping[Path, str]
    """What it makes, by path in the project, each with its hash in dvc.lock or an empty text."""
    chain: int
    """Stages in the longest chain that waits for it: the more, the sooner it should run."""
    position: int
    """In dvc.yaml; of those on which as many wait, the first one should run first."""
    changes: tuple[str, ...]
    """Why DVC would run it, one reason each; empty when it is up to date."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """What dvc.yaml says about running it, such as its worker pool."""
    command: str = ""
    """What a shell is told to run it."""


def plan(root: Path) -> list[Stage]:
    """Return the stages in an order in which they can run.

    Needs no data: DVC compares hashes, so this works in a clone that has pulled nothing.

    Raises:
        UserError: There is no dvc.yaml, it is wrong or names no stage, or another DVC command
            holds the project.
    """
    graph, status = _ask_dvc(root)
    hashes = locked(root)
    # DVC's edges point from a stage to what it needs.
    needs = {stage: set(graph.successors(stage)) for stage in graph}
    order = list(TopologicalSorter(needs).static_order())
    positions = {stage: position for position, stage in enumerate(graph)}
    chains: dict[Any, int] = {}
    for stage in reversed(order):
        chains[stage] = max((chains[user] + 1 for user in graph.predecessors(stage)), default=0)
    return [
        Stage(
            name=stage.name,
            upstream=tuple(sorted(needed.name for needed in graph.successors(stage))),
            outputs={path: hashes.get(path, "") for path in _outputs(root, stage)},
            chain=chains[stage],
            position=positions[stage],
            changes=tuple(_reasons(status.get(stage.addressing, []))),
            meta=stage.meta or {},
            command=stage.cmd,
        )
        for stage in order
        if isinstance(stage, PipelineStage)
    ]


def stage_of(root: Path, name: str) -> Stage:
    """Return one stage, to be run whatever DVC thinks of it.

    Raises:
        UserError: dvc.yaml is wrong, or has no such stage.
    """
    hashes = locked(root)
    try:
        with Repo(str(root)) as repo:
            for stage in repo.index.stages:
                if isinstance(stage, PipelineStage) and stage.name == name:
                    outputs = {path: hashes.get(path, "") for path in _outputs(root, stage)}
                    meta = stage.meta or {}
                    return Stage(name, (), outputs, 0, 0, ("ordered",), meta, stage.cmd)
    except DvcException as error:
        raise UserError(f"{root}: DVC cannot read it: {' '.join(str(error).split())}") from None
    raise UserError(f"{name}: dvc.yaml has no such stage; mend its name")


def is_due(stages: list[Stage], output: Path) -> bool:
    """Tell whether an output is about to be made anew, as far as can be told before a first look.

    What is only not here, such as in a clone that has pulled nothing, is no change.

    Args:
        stages: As `plan` returns them.
        output: A path that one of them makes.
    """
    missing = {f"{path} {how}" for s in stages for path in s.outputs for how in _NOT_HERE}
    needed = {stage.name for stage in stages if output in stage.outputs}
    changes: set[str] = set()
    for stage in reversed(stages):
        if stage.name in needed:
            needed |= set(stage.upstream)
            changes |= set(stage.changes)
    return bool(changes - missing - {_ALWAYS})


def of_flow(stages: list[Stage], flow: str) -> list[Stage]:
    """Return the stages that are a flow's, and those whose outputs they need, in their order."""
    return _with_needed(stages, {stage.name for stage in stages if stage.meta.get("flow") == flow})


def that_make(stages: list[Stage], output: Path) -> list[Stage]:
    """Return the stages that an output comes from, its own among them, in their order."""
    return _with_needed(stages, {stage.name for stage in stages if output in stage.outputs})


def _with_needed(stages: list[Stage], wanted: set[str]) -> list[Stage]:
    needed = set(wanted)
    for stage in reversed(stages):
        if stage.name in needed:
            needed |= set(stage.upstream)
    return [stage for stage in stages if stage.name in needed]


def but(stages: list[Stage], flow: str) -> list[Stage]:
    """Return the stages without a flow's; none else needs what those make."""
    return [stage for stage in stages if stage.meta.get("flow") != flow]


def _ask_dvc(root: Path) -> tuple[Any, dict[str, list[Any]]]:
    """Return the graph, and the status of every stage that is not up to date."""
    try:
        with Repo(str(root)) as repo:
            graph, status = repo.index.graph, repo.status()
    except DvcException as error:
        raise UserError(
            f"{root}: DVC cannot read the graph: {' '.join(str(error).split())}"
        ) from None
    path = root / "dvc.yaml"
    if not path.exists():
        raise UserError(f"{path}: no such file; run in the project's folder, or restore it")
    if not any(isinstance(stage, PipelineStage) for stage in graph):
        raise UserError(f"{path}: names no stages; restore it, `git diff` shows what changed")
    return graph, status


def _outputs(root: Path, stage: PipelineStage) -> list[Path]:
    return [Path(out.fs_path).relative_to(root.resolve()) for out in stage.outs]


def _reasons(changes: list[Any]) -> list[str]:
    """Flatten DVC's status of a stage, such as [{"changed deps": {"data": "modified"}}]."""
    reasons: list[str] = []
    for change in changes:
        if isinstance(change, str):
            reasons.append(change)
            continue
        for what in change.values():
            for name, how in what.items():
                inner = how.items() if isinstance(how, dict) else [(name, how)]
                reasons.extend(f"{path} {verb}" for path, verb in inner)
    return reasons


def locked(root: Path) -> dict[Path, str]:
    """Return the hash of every output that dvc.lock names, by its path in the project.

    DVC writes the file in place, so whoever reads while a stage ends may miss some of it.
    """
    made = entries(root / "dvc.lock").values()
    try:
        return {Path(out["path"]): out["md5"] for entry in made for out in entry.get("outs", [])}
    except (LookupError, TypeError, AttributeError):
        return {}


def entries(lock: Path) -> dict[str, Mapping[str, Any]]:
    """Return the entries of a dvc.lock by stage; none where it is missing or half written."""
    try:
        return dict(_read(lock.read_text()))
    except (OSError, YAMLError, LookupError, TypeError, ValueError):
        return {}


@functools.lru_cache(maxsize=4)
def _read(lock: str) -> Mapping[str, Mapping[str, Any]]:
    """Return the entries; kept, since a large one takes a tenth of a second and is read often."""
    stages: Mapping[str, Mapping[str, Any]] = YAML(typ="safe").load(lock)["stages"]
    return stages


def behind(made: Mapping[str, Mapping[str, Any]], output: Path) -> list[str]:
    """Return the stages that an output comes from, its own among them, as dvc.lock tells.

    Args:
        made: The entries of a dvc.lock by stage.
        output: A path that one of them makes, or that lies in one.
    """
    found: list[str] = []
    wanted = [output]
    while wanted:
        path = wanted.pop()
        for name, entry in made.items():
            if name not in found and any(touch(path, Path(o["path"])) for o in entry["outs"]):
                found.append(name)
                wanted.extend(Path(dep["path"]) for dep in entry.get("deps", []))
    return sorted(found)


def touch(one: Path, other: Path) -> bool:
    """Tell whether two paths are one, or one of them lies in the other."""
    return one.is_relative_to(other) or other.is_relative_to(one)


def hash_of(hashes: Mapping[Path, str], path: Path) -> str:
    """Return the hash of the output that a path is, or lies in.

    Raises:
        UserError: dvc.lock names none.
    """
    for place in (path, *path.parents):
        if place in hashes:
            return hashes[place]
    raise UserError(f"dvc.lock: does not name {path}; dvc.yaml has to make it, then run again")
