"""Styles and fine-tunes are published in the registry, beside the acceleration adapter.

All are versions of one registered model, each known by its content; aliases such as `style-ink` say
which of them a name means now.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from lcm_lora import layout
from lcm_lora.adapter_files import WEIGHTS
from lcm_lora.combining.opened import single_file
from lcm_lora.errors import UserError, reason
from lcm_lora.families.found import BaseInventory
from lcm_lora.families.header import read_header
from lcm_lora.files import link, sha256
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base import look_at_base
from lcm_lora.inventory.base_files import where_is
from lcm_lora.inventory.modules import BASE, INSIDE, is_published
from lcm_lora.inventory.subjects import look_at_subjects
from lcm_lora.params.file import Params
from lcm_lora.params.transfer import Subject
from lcm_lora.records import write_record
from tasks.registry.carried import small
from tasks.registry.claim import claimed
from tasks.registry.versions import make_model
from tasks.tracking.tracker import Tracker

if TYPE_CHECKING:
    from lcm_lora.combining.delta import Lora

Kind = Literal["style", "finetune"]

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
_PLACE = "module"
"""Of a version's files among the artifacts of its run."""


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


def publish_style(tracker: Tracker, params: Params, name: str, file: Path) -> Published:
    """Return the version of a style, which `style-NAME` means from now on.

    Args:
        tracker: Of the project.
        params: Of the project; the style has to fit its base.
        name: Of the style.
        file: Its LoRA.

    Raises:
        UserError: The name or the file is none, the file fits another family only, or diffusers
            would take it for another sum than it is.
    """
    from lcm_lora.combining.fits import check_fits  # heavy
    from lcm_lora.combining.read import read_lora

    _check_name("style", name)
    weights = single_file(file)
    lora = read_lora(weights)
    base = _base(tracker, params)
    check_fits(str(weights), lora, base)
    _check_suited(weights, lora)
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
        _write_finetune(found, Path(folder))
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


def _base(tracker: Tracker, params: Params) -> BaseInventory:
    with Hashes(tracker.root / layout.HASHES) as hashes:
        return look_at_base(params.base, hashes)


def _check_suited(weights: Path, lora: Lora) -> None:
    """Refuse alphas that diffusers takes for others, as `combining.write` knows."""
    from lcm_lora.combining.write import suited

    if not any(name.endswith(".alpha") for name in read_header(weights).shapes):
        return
    right = suited(lora, "kohya")  # which leaves the tensors of what is right as they are
    if any(right[m].up is not f.up or right[m].down is not f.down for m, f in lora.items()):
        raise UserError(
            f"{weights}: alphas differ by module, and diffusers would take one for all; "
            f"`lcm-lora combine OUT {weights.name}` mends it"
        )


def _looked_at(tracker: Tracker, params: Params, name: str, model: str) -> BaseInventory:
    """Return what a fine-tune is made of, after checking it as a subject of the transfer."""
    if is_published(model):
        raise UserError(f"finetune {name}: {model}: is published; name its folder, file or hub id")
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


def _write_finetune(found: BaseInventory, folder: Path) -> None:
    """Write the reference, and the files where they are small."""
    write_record(folder / BASE, found)
    files = [file for file in found.files if not file.startswith("config/")]
    inside = folder / INSIDE
    part = small(where_is(found).model, files, inside)
    if part is not None and part.is_file():
        inside.mkdir()
        link(part, inside / part.name)


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
