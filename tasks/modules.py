"""Styles and fine-tunes in the registry, beside the acceleration adapter: published, and brought.

All are versions of one registered model, each known by its content; aliases such as `style-ink` say
which of them a name means now. Who names one in the parameters gets what it means at the beginning
of a run, so a newer version is new in the first look, and what follows from it runs.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from prefect import task
from prefect.cache_policies import NO_CACHE

from lcm_lora import layout
from lcm_lora.combining.opened import PEFT_WEIGHTS, adapter_files
from lcm_lora.errors import UserError, reason
from lcm_lora.families.found import BaseInventory
from lcm_lora.files import clear_others, link, new_folder, sha256
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base import look_at_base
from lcm_lora.inventory.base_files import where_is
from lcm_lora.inventory.modules import BASE, INSIDE, MODULE, Module, is_module, module_folder
from lcm_lora.inventory.subjects import look_at_subjects
from lcm_lora.params.file import Params
from lcm_lora.params.generate import Painter
from lcm_lora.params.transfer import Subject
from lcm_lora.recipe import WEIGHTS
from lcm_lora.records import read_record, write_record
from tasks.carried import small
from tasks.claim import claimed
from tasks.registry import make_model
from tasks.tracking import Tracker

Kind = Literal["style", "finetune"]

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
_PLACE = "module"
"""Of a version's files among the artifacts of its run."""
_NAMED = re.compile(r"models:/([^/@:]+)(?:@([\w-]+)|/(\d+))")
_MEND = "publish it by `python -m flows.publish`, or mend its name in params.yaml"
_RENEW = "delete that version in MLflow, and publish it again"


@dataclass(frozen=True)
class Published:
    """A version of the registered model of styles and fine-tunes, and its alias."""

    model: str
    version: str
    alias: str
    is_new: bool

    @property
    def name(self) -> str:
        """How parameters, and the served model's configuration, name it."""
        return f"models:/{self.model}@{self.alias}"

    def __str__(self) -> str:
        return f"{self.model} version {self.version}"


# --- publishing ---


def publish_style(tracker: Tracker, params: Params, name: str, file: Path) -> Published:
    """Return the version of a style, which `style-NAME` means from now on.

    Args:
        tracker: Of the project.
        params: Of the project; the style has to fit its base.
        name: Of the style.
        file: Its LoRA.

    Raises:
        UserError: The name or the file is none, or the file fits another family only.
    """
    from lcm_lora.combining.fits import check_fits  # heavy
    from lcm_lora.combining.read import read_lora

    _check_name("style", name)
    (weights,) = _single(adapter_files(file), file)
    lora = read_lora(weights)
    base = _base(tracker, params)
    check_fits(str(weights), lora, base)
    with tempfile.TemporaryDirectory() as folder:
        link(weights, Path(folder) / WEIGHTS)
        tags = {"kind": "style", "family": base.structure.family, "sha256": sha256(weights)}
        return _publish(tracker, params, f"style-{name}", tags, Path(folder))


def publish_finetune(tracker: Tracker, params: Params, name: str, model: str) -> Published:
    """Return the version of a fine-tune, which `finetune-NAME` means from now on.

    It is a reference: the base's name, and the hash of every file. Files are inside where they are
    small, as those of bases are in the adapter's versions.

    Args:
        tracker: Of the project.
        params: Of the project; the fine-tune has to be of the family of its base.
        name: Of the fine-tune.
        model: As `base.model` would name it.

    Raises:
        UserError: The name is none, or there is no such base of this family.
    """
    _check_name("finetune", name)
    # Others, who read the reference, may be in another folder.
    place = str(Path(model).resolve()) if Path(model).exists() else model
    found = _looked_at(tracker, params, name, place)
    with tempfile.TemporaryDirectory() as folder:
        write_record(Path(folder) / BASE, found)
        files = [file for file in found.files if not file.startswith("config/")]
        inside = Path(folder) / INSIDE
        part = small(where_is(found).model, files, inside)
        if part is not None and part.is_file():
            inside.mkdir()
            link(part, inside / part.name)
        tags = {
            "kind": "finetune",
            "family": found.structure.family,
            "sha256": found.sha256,
            "base_model": found.model,
            "base_revision": str(found.commit),
        }
        return _publish(tracker, params, f"finetune-{name}", tags, Path(folder))


def _check_name(kind: Kind, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{kind} {name!r}: is no name; take small letters, digits and -, at most 60"
        )


def _single(files: list[Path], named: Path) -> list[Path]:
    if len(files) != 1 or files[0].name == PEFT_WEIGHTS:
        raise UserError(
            f"{named}: is a folder of PEFT, which pipelines do not load as a file; convert it by "
            "`lcm-lora combine`"
        )
    return files


def _base(tracker: Tracker, params: Params) -> BaseInventory:
    with Hashes(tracker.root / layout.HASHES) as hashes:
        return look_at_base(params.base, hashes)


def _looked_at(tracker: Tracker, params: Params, name: str, model: str) -> BaseInventory:
    """Return what a fine-tune is made of, after checking it as a subject of the transfer."""
    base = _base(tracker, params)
    alone = params.transfer.model_copy(update={"subjects": {name: Subject(base=model)}})
    try:
        with Hashes(tracker.root / layout.HASHES) as hashes:
            found = look_at_subjects(alone, base, hashes)[name].base
    except UserError as error:
        said = str(error).removeprefix(f"transfer subject {name}: ")
        raise UserError(f"finetune {name}: {said}") from None
    assert found is not None
    return found


def _publish(
    tracker: Tracker, params: Params, alias: str, tags: dict[str, str], files: Path
) -> Published:
    client, model = tracker.client, f"{params.registry.name}-modules"
    try:
        make_model(tracker, model)
        with claimed(client, model):
            known = _version_of(tracker, model, tags)
            number = str(known.version) if known else _add(tracker, model, alias, tags, files)
            client.set_registered_model_alias(model, alias, number)
    except MlflowException as error:
        raise UserError(f"{alias}: MLflow did not take it ({reason(error)}); run again") from None
    return Published(model, number, alias, is_new=known is None)


def _version_of(tracker: Tracker, model: str, tags: dict[str, str]) -> ModelVersion | None:
    """Return the version of the same kind and content."""
    query = f"name = '{model}' and tag.sha256 = '{tags['sha256']}'"
    found = tracker.client.search_model_versions(query)
    return next((version for version in found if version.tags.items() >= tags.items()), None)


def _add(tracker: Tracker, model: str, alias: str, tags: dict[str, str], files: Path) -> str:
    """Store files as a new version; return its number."""
    client = tracker.client
    run = client.create_run(tracker.experiment_id, run_name=alias, tags=tags)
    try:
        client.log_artifacts(run.info.run_id, str(files), _PLACE)
    except BaseException:
        client.set_terminated(run.info.run_id, "FAILED")
        raise
    client.set_terminated(run.info.run_id)
    source = f"{run.info.artifact_uri}/{_PLACE}"
    return str(client.create_model_version(model, source, run.info.run_id, tags=tags).version)


# --- bringing ---


@task(task_run_name="bring styles and fine-tunes", cache_policy=NO_CACHE)
def bring(tracker: Tracker, params: Params) -> None:
    """Put what parameters name in the registry where the first look finds it.

    Every alias is looked up; content that is here already is not fetched again, and what nobody
    names any more is removed.

    Raises:
        UserError: The registry does not have one of them, or gives other bytes than published.
    """
    names = _named(params)
    clear_others(tracker.root / layout.MODULES, [module_folder(name).name for name in names])
    for name, kind in names.items():
        _bring(tracker, name, kind)


def _named(params: Params) -> dict[str, Kind]:
    """Return what parameters name in the registry, and as what."""
    names: dict[str, Kind] = {}
    named: list[Painter | Subject] = [
        *params.generate.painters.values(),
        *params.transfer.subjects.values(),
    ]
    for who in named:
        names |= {adapter: "style" for adapter in who.adapters if is_module(adapter)}
        if who.base and is_module(who.base):
            names[who.base] = "finetune"
    return names


def _bring(tracker: Tracker, name: str, kind: Kind) -> None:
    version = _version(tracker, name)
    title = f"{version.name} version {version.version}"
    if version.tags.get("kind") != kind or not (digest := version.tags.get("sha256")):
        raise UserError(f"{name}: {title} was not published as a {kind}; {_MEND}")
    module = Module(name=name, version=title, sha256=digest)
    folder = tracker.root / module_folder(name)
    if _is_here(folder, module):
        return
    with new_folder(folder) as made:
        _download(name, version, made)
        if _content(made) != digest:
            raise UserError(f"{name}: {title} is not as it was published; {_RENEW}")
        write_record(made / MODULE, module)


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


def _version(tracker: Tracker, name: str) -> ModelVersion:
    """Return the version that a name means now."""
    if not (parts := _NAMED.fullmatch(name)):
        raise UserError(f"{name}: is no name; write models:/NAME@ALIAS or models:/NAME/VERSION")
    model, alias, number = parts.groups()
    try:
        if alias:
            return tracker.client.get_model_version_by_alias(model, alias)
        return tracker.client.get_model_version(model, number)
    except MlflowException as error:
        raise UserError(
            f"{name}: the registry does not have it ({reason(error)}); {_MEND}"
        ) from None


def _is_here(folder: Path, module: Module) -> bool:
    """Tell whether a version was brought before, and is still whole."""
    with contextlib.suppress(UserError):
        return read_record(folder / MODULE, Module, _MEND) == module and (
            _content(folder) == module.sha256
        )
    return False
