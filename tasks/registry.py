"""Model versions: one for each adapter, found by its content."""

from __future__ import annotations

import importlib.metadata
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

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
from tasks.claim import claimed
from tasks.graph import locked
from tasks.tracking import Tracker, params_sha256
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
