"""Styles and fine-tunes that parameters name in the registry are brought before the first look.

Every alias is looked up at the beginning of a run, so a newer version is new in the first look, and
what follows from it runs.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion
from prefect import task
from prefect.cache_policies import NO_CACHE

from lcm_lora import layout
from lcm_lora.adapter_files import WEIGHTS
from lcm_lora.errors import UserError, reason
from lcm_lora.families.found import BaseInventory
from lcm_lora.files import clear_others, new_folder, sha256
from lcm_lora.inventory.modules import (
    BASE,
    INSIDE,
    RECORD,
    Brought,
    brought_folder,
    is_published,
)
from lcm_lora.locks import locked
from lcm_lora.params.file import Params
from lcm_lora.params.generate import Painter
from lcm_lora.params.transfer import Subject
from lcm_lora.records import read_record, write_record
from tasks.registry.publishing import Kind
from tasks.registry.reference import find
from tasks.tracking.tracker import Tracker

_MEND = "publish it by `python -m flows.publish`, or mend its name in params.yaml"
_RENEW = "delete that version in MLflow, and publish it again"


@task(task_run_name="bring styles and fine-tunes", cache_policy=NO_CACHE)
def bring(tracker: Tracker, params: Params, clear: bool = True) -> None:
    """Put what parameters name in the registry where the first look finds it.

    Every alias is looked up; content that is here already is not fetched again. What nobody names
    any more is removed at the end, since without what is new the old may still be wanted.

    Args:
        tracker: Of the project.
        params: Of the run.
        clear: Remove the rest; not where runs with other parameters use the same.

    Raises:
        UserError: The registry does not have one of them, or gives other bytes than published.
    """
    names = named(params)
    if names:
        with locked(tracker.root / layout.CHECKPOINTS / "modules.lock", "others who bring styles"):
            for name, kind in names.items():
                _bring(tracker, name, kind)
    if clear:
        clear_others(tracker.root / layout.MODULES, [brought_folder(name).name for name in names])


def named(params: Params) -> dict[str, Kind]:
    """Return what parameters name in the registry, and as what."""
    names: dict[str, Kind] = {}
    named: list[Painter | Subject] = [
        *params.generate.painters.values(),
        *params.transfer.subjects.values(),
    ]
    for who in named:
        names |= {adapter: "style" for adapter in who.adapters if is_published(adapter)}
        if who.base and is_published(who.base):
            names[who.base] = "finetune"
    return names


def _bring(tracker: Tracker, name: str, kind: Kind) -> None:
    version = find(tracker.client, name, _MEND)
    title = f"{version.name} version {version.version}"
    if version.tags.get("kind") != kind or not (digest := version.tags.get("sha256")):
        raise UserError(f"{name}: {title} was not published as a {kind}; {_MEND}")
    brought = Brought(name=name, version=title, sha256=digest)
    folder = tracker.root / brought_folder(name)
    if _is_here(folder, brought):
        return
    with new_folder(folder) as made:
        _download(name, version, made)
        if _content(made) != digest:
            raise UserError(f"{name}: {title} is not as it was published; {_RENEW}")
        write_record(made / RECORD, brought)


def _download(name: str, version: ModelVersion, folder: Path) -> None:
    uri = f"models:/{version.name}/{version.version}"
    try:
        mlflow.artifacts.download_artifacts(uri, dst_path=str(folder))
    except Exception as error:  # whatever the store of artifacts raises
        raise UserError(
            f"{name}: {version.name} version {version.version} cannot be fetched from MLflow "
            f"({reason(error)}); run again; if it is lost, {_RENEW}"
        ) from None


def _content(folder: Path) -> str | None:
    """Return the hash of what is in a folder, as its version's tag has it; None if it is damaged.

    Of a fine-tune that is a mere reference, the first look compares the files.
    """
    if (folder / WEIGHTS).is_file():
        return sha256(folder / WEIGHTS)
    try:
        published = read_record(folder / BASE, BaseInventory, _MEND)
    except UserError:
        return None
    if (inside := folder / INSIDE).is_dir():
        files = {n: digest for n, digest in published.files.items() if not n.startswith("config/")}
        if any(not (inside / n).is_file() or sha256(inside / n) != files[n] for n in files):
            return None
    return published.sha256


def _is_here(folder: Path, brought: Brought) -> bool:
    """Tell whether a version was brought before, and is still whole."""
    with contextlib.suppress(UserError):
        return read_record(folder / RECORD, Brought, _MEND) == brought and (
            _content(folder) == brought.sha256
        )
    return False
