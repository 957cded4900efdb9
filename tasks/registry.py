"""Model versions: one for each adapter, found by its content; and who is champion."""

from __future__ import annotations

import importlib.metadata
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from prefect import task
from prefect.cache_policies import NO_CACHE

from lcm_lora import layout
from lcm_lora.errors import UserError
from lcm_lora.evaluation.table import Table
from lcm_lora.params.file import Params
from lcm_lora.params.registry import Gate
from lcm_lora.recipe import Recipe, Recommended
from tasks import gate
from tasks.carried import carried
from tasks.gate import Decision
from tasks.graph import locked
from tasks.tracking import SCORES_ARTIFACT, Tracker, params_sha256
from tasks.training import Training

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
    tracker: Tracker, run_id: str, params: Params, training: Training, scores: Table
) -> Registered:
    """Return the adapter's version; the same weights are never registered twice."""
    client, name = tracker.client, params.registry.name
    known = client.search_model_versions(
        f"name = '{name}' and tag.adapter_sha256 = '{training.recipe.weights_sha256}'"
    )
    if known:
        version = known[0]
    else:
        uri = _log_model(tracker, run_id, training.recipe)
        version = mlflow.register_model(uri, name, tags=_lineage(tracker, params, training))
    # The same adapter may be scored anew, on another evaluation set.
    evaluation = scores.protocol["sha256"]
    client.set_model_version_tag(name, version.version, "evaluation", evaluation)
    card = (tracker.root / layout.REPORT / "model_card.md").read_text()
    text = card[card.find("\n# ") + 1 :].strip()  # what is before is for the hub
    client.update_model_version(name, version.version, description=text)
    return Registered(name, str(version.version), is_new=not known)


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


def judge(tracker: Tracker, registered: Registered, scores: Table, rules: Gate) -> Decision:
    """Compare a version with the champion, whose scores are in its run.

    Raises:
        UserError: The scores do not hold what the gate asks for.
    """
    champion = _holder(tracker, registered.name, "champion")
    if champion is None:
        return gate.decide(scores, None, rules)
    if str(champion.version) == registered.version:
        return Decision(False, f"{registered} is the champion already")
    path = tracker.client.download_artifacts(champion.run_id, SCORES_ARTIFACT)
    try:
        rival = gate.read(Path(path))
    except UserError:
        return Decision(False, "not comparable: the champion's scores are not of today's form")
    return gate.decide(scores, rival, rules)


@task(task_run_name="promote", cache_policy=NO_CACHE)
def promote(tracker: Tracker, registered: Registered, decision: Decision) -> None:
    """Carry out a decision: the winner is champion, anyone else is the challenger."""
    client, name, version = tracker.client, registered.name, registered.version
    aliases = client.get_registered_model(name).aliases
    if str(aliases.get("champion")) == version:
        return
    client.set_model_version_tag(name, version, "gate", decision.reason)
    client.set_registered_model_alias(
        name, "champion" if decision.promote else "challenger", version
    )
    if decision.promote and "challenger" in aliases:
        client.delete_registered_model_alias(name, "challenger")


def _holder(tracker: Tracker, name: str, alias: str) -> ModelVersion | None:
    if alias not in tracker.client.get_registered_model(name).aliases:
        return None
    return tracker.client.get_model_version_by_alias(name, alias)


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
            model_config={"base": None, "vae": None},
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
            ]
        ),
    )
