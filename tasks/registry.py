"""Model versions: one for each adapter, found by its content; and who is champion."""

from __future__ import annotations

import hashlib
import importlib.metadata
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from prefect import task
from prefect.cache_policies import NO_CACHE

from lcm_lora import layout
from lcm_lora.gate.decision import Decision
from lcm_lora.params.file import Params
from lcm_lora.recipe import Recipe, Recommended
from tasks.carried import carried
from tasks.champion import ALIAS, is_overtaken
from tasks.claim import claimed
from tasks.graph import locked
from tasks.tracking import Tracker, params_sha256
from tasks.training import Training

Move = Literal["promoted", "challenger", "champion already", "carried out before", "overtaken"]
"""What came of a decision; `overtaken` if somebody else became champion meanwhile."""

_CHALLENGER = "challenger"
_AGAINST = "judged_against"
_SERVED = Path(__file__).with_name("served_model.py")
_NEEDED = (
    "mlflow",
    "torch",
    "diffusers",
    "transformers",
    "huggingface_hub",
    "peft",
    "accelerate",
    "safetensors",
    "pandas",
    "pillow",
)


@dataclass(frozen=True)
class Registered:
    """A version of the registered model."""

    name: str
    version: str
    is_new: bool

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


@task(task_run_name="register", cache_policy=NO_CACHE)
def register(
    tracker: Tracker, run_id: str, params: Params, training: Training, decision: Decision
) -> Registered:
    """Return the adapter's version; the same weights are never registered twice."""
    client, name = tracker.client, params.registry.name
    make_model(tracker, name)
    with claimed(client, name):
        known = version_of(tracker, name, training.recipe.weights_sha256)
        if known is None:
            uri = _log_model(tracker, run_id, training.recipe)
            lineage = _lineage(tracker, params, training)
            version = str(mlflow.register_model(uri, name, tags=lineage).version)
        else:
            version = str(known.version)
    # The same adapter may be scored anew, on another evaluation set.
    client.set_model_version_tag(name, version, "evaluation", decision.protocol_sha256)
    card = (tracker.root / layout.REPORT / "model_card.md").read_text()
    text = card[card.find("\n# ") + 1 :].strip()  # what is before is for the hub
    client.update_model_version(name, version, description=text)
    return Registered(name, version, is_new=known is None)


def crowned(tracker: Tracker, name: str, decision: Decision) -> Registered | None:
    """Return the adapter's version if it is champion, by a comparison that this one is no news to.

    That is one with itself, or with nobody, where the champion before it is not here: what is said
    of the version and in its run tells how it became champion, and has to stay.
    """
    version = version_of(tracker, name, decision.adapter_sha256)
    if version is None or _aliases(tracker, name).get(ALIAS) != str(version.version):
        return None
    if version.tags.get(_AGAINST) in {None, _rival(decision)}:
        return None
    return Registered(name, str(version.version), is_new=False)


def make_model(tracker: Tracker, name: str) -> None:
    """Make the registered model, which claims are about, unless it is there."""
    try:
        tracker.client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def version_of(tracker: Tracker, name: str, adapter_sha256: str) -> ModelVersion | None:
    """Return the version of an adapter, by its weights."""
    query = f"name = '{name}' and tag.adapter_sha256 = '{adapter_sha256}'"
    return next(iter(tracker.client.search_model_versions(query)), None)


def _rival(decision: Decision) -> str:
    return decision.champion.version if decision.champion else "nobody"


def _lineage(tracker: Tracker, params: Params, training: Training) -> dict[str, str]:
    hashes, base = locked(tracker.root), training.recipe.base
    return {
        "git_sha": training.origin.git_commit,
        "git_dirty": str(training.origin.git_dirty).lower(),
        "code_sha256": training.origin.code_sha256,
        "adapter_sha256": training.recipe.weights_sha256,
        "adapter_md5": hashes[layout.ADAPTER],
        "chosen_step": str(training.selection.chosen),
        "data_md5": hashes[layout.SHARDS],
        "params_sha256": params_sha256(params),
        "base_model": base.model,
        "base_revision": str(base.revision),
        "base_sha256": base.sha256,
    }


@task(task_run_name="promote", cache_policy=NO_CACHE)
def promote(tracker: Tracker, registered: Registered, decision: Decision) -> Move:
    """Carry out a decision once: the winner is champion, anyone else is the challenger.

    Only if the champion still is the one that was compared: of two runs at once, one wins. And only
    once: who moves the alias afterwards, by hand, has the last word on what that decision said.
    """
    client, name, version = tracker.client, registered.name, registered.version
    with claimed(client, name):
        done = _carried_out(decision)
        is_done = done in client.get_model_version(name, version).tags
        aliases = _aliases(tracker, name)
        if aliases.get(ALIAS) == version:
            if aliases.get(_CHALLENGER) == version:  # whoever promoted it died between two calls
                client.delete_registered_model_alias(name, _CHALLENGER)
            if decision.promote and not is_done:
                client.set_model_version_tag(name, version, done, "champion already")
            return "champion already"
        if is_overtaken(tracker, name, decision):
            return "overtaken"
        if is_done:
            return "carried out before" if decision.promote else "challenger"
        client.set_model_version_tag(name, version, _AGAINST, _rival(decision))
        client.set_model_version_tag(name, version, "gate", decision.reason)
        # A last look: people move aliases too, and claim nothing.
        if _aliases(tracker, name).get(ALIAS) != aliases.get(ALIAS):
            return "overtaken"
        move: Move = "promoted" if decision.promote else "challenger"
        client.set_registered_model_alias(name, ALIAS if decision.promote else _CHALLENGER, version)
        if decision.promote and _CHALLENGER in aliases:
            client.delete_registered_model_alias(name, _CHALLENGER)
        client.set_model_version_tag(name, version, done, move)
        return move


def _aliases(tracker: Tracker, name: str) -> dict[str, str]:
    aliases = tracker.client.get_registered_model(name).aliases
    return {alias: str(version) for alias, version in aliases.items()}


def _carried_out(decision: Decision) -> str:
    """Return the name of the tag that says that a decision was carried out."""
    return f"decision.{hashlib.sha256(decision.model_dump_json().encode()).hexdigest()[:16]}"


def _log_model(tracker: Tracker, run_id: str, recipe: Recipe) -> str:
    with (
        tempfile.TemporaryDirectory() as folder,
        mlflow.start_run(run_id=run_id),
        warnings.catch_warnings(),
    ):
        # An example would make MLflow draw a picture here and now; the signature says enough.
        warnings.filterwarnings("ignore", message="An input example was not provided")
        logged = mlflow.pyfunc.log_model(
            name="adapter",
            python_model=str(_SERVED),
            artifacts={
                name: str(path)
                for name, path in carried(tracker.root, recipe.base, Path(folder)).items()
            },
            # What may be said when loading has to be known here.
            model_config={"base": None, "vae": None, "styles": None},
            signature=signature(recipe.recommended),
            pip_requirements=[f"{part}=={importlib.metadata.version(part)}" for part in _NEEDED],
        )
    return str(logged.model_uri)


def signature(recommended: Recommended) -> ModelSignature:
    """Return what the model takes and gives; defaults are the recipe's recommendation."""
    steps = 4 if 4 in recommended.steps else recommended.steps[-1]
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "prompt")]),
        outputs=Schema([ColSpec(DataType.string, "image")]),
        params=ParamSchema(
            [
                ParamSpec("num_inference_steps", DataType.long, steps),
                ParamSpec("seed", DataType.long, 0),
                ParamSpec("guidance_scale", DataType.double, recommended.guidance),
                ParamSpec("styles", DataType.string, ""),
                ParamSpec("acceleration", DataType.double, 1.0),
                ParamSpec("negative_prompt", DataType.string, ""),
            ]
        ),
    )
