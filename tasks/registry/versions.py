"""Model versions: one for each adapter, found by its content."""

from __future__ import annotations

import hashlib
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

from lcm_lora import layout, markdown
from lcm_lora.errors import UserError
from lcm_lora.gate.decision import Decision
from lcm_lora.params.file import Params
from lcm_lora.recipe import Recipe, Recommended
from lcm_lora.records import parse_record
from tasks.registry import evidence, pushing
from tasks.registry.carried import carried
from tasks.registry.claim import claimed
from tasks.registry.evidence import Lineage
from tasks.running.cost import Spent
from tasks.tracking.tracker import Tracker
from tasks.tracking.training import Training

_MOST_LETTERS = 5000
"""Of a description: more PostgreSQL does not take from MLflow, though SQLite does."""
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
    """Return the adapter's version; the same weights are never registered twice.

    What it was made of is pushed before, and its evidence is kept; again, if it was judged anew.

    Raises:
        UserError: The DVC remote does not take, or lacks, what it was made of.
    """
    client, name = tracker.client, params.registry.name
    evaluation = client.get_run(run_id).data.tags["evaluation_at"]
    make_model(tracker, name)
    known = version_of(tracker, name, training.recipe.weights_sha256)
    if known and known.tags.get(evidence.TAG_OF) == evaluation:
        return Registered(name, str(known.version), is_new=False)
    pushed = pushing.push(tracker.root)
    with claimed(client, name):
        known = version_of(tracker, name, training.recipe.weights_sha256)
        # Evidence is looked for in the version's own run, which may be another than today's.
        kept_in = known.run_id if known and known.run_id else run_id
        lineage = evidence.trace(tracker, kept_in, params, training, decision, pushed)
        if known is None:
            tags = _tags(lineage, training, evidence.write(tracker, lineage, evidence.PLACE))
            uri = _log_model(tracker, run_id, training.recipe)
            version = str(mlflow.register_model(uri, name, tags=tags).version)
        else:
            version, place = str(known.version), _place(known, evaluation)
            tags = _tags(lineage, training, evidence.write(tracker, lineage, place))
            for tag, value in tags.items():
                client.set_model_version_tag(name, version, tag, value)
        # The same adapter may be scored anew, on another evaluation set.
        client.set_model_version_tag(name, version, "evaluation", decision.protocol_sha256)
        card = (tracker.root / layout.REPORT / "model_card.md").read_text()
        text = card[card.find("\n# ") + 1 :].strip()  # what is before is for the hub
        client.update_model_version(name, version, markdown.cut(text, _MOST_LETTERS))
        # Last, so that an interrupted call is made good by the next.
        client.set_model_version_tag(name, version, evidence.TAG_OF, evaluation)
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


def spent_on(version: ModelVersion) -> Spent | None:
    """Return what a version took; None for one of before that was kept, or if it was altered."""
    where = f"{version.name} version {version.version}"
    try:
        return parse_record(version.tags.get("cost", ""), Spent, where, "")
    except UserError:
        return None


def _place(known: ModelVersion, evaluation: str) -> str:
    """Return where evidence of an evaluation goes; that of an earlier one is never replaced."""
    if known.tags.get(evidence.TAG_OF) is None:
        return evidence.PLACE
    return f"{evidence.PLACE}/evaluations/{hashlib.sha256(evaluation.encode()).hexdigest()[:12]}"


def _tags(lineage: Lineage, training: Training, kept: str) -> dict[str, str]:
    """Return the tags of a version; its evidence has the same and more."""
    of = {"data_md5": layout.SHARDS, "cache_md5": layout.CACHE, "adapter_md5": layout.ADAPTER}
    made = {tag: lineage.outputs.get(path.as_posix()) for tag, path in of.items()}
    return {
        "git_sha": lineage.git_commit,
        "git_dirty": str(lineage.git_dirty).lower(),
        "code_sha256": lineage.code_sha256,
        "adapter_sha256": lineage.adapter_sha256,
        "chosen_step": str(training.selection.chosen),
        **{tag: md5 for tag, md5 in made.items() if md5},
        "params_sha256": lineage.params_sha256,
        "base_model": lineage.base_model,
        "base_revision": str(lineage.base_revision),
        "base_sha256": lineage.base_sha256,
        "scores_sha256": lineage.scores_sha256,
        "decision_sha256": lineage.decision_sha256,
        "pushed": lineage.dvc_remote,
        "cost": lineage.cost.model_dump_json(),
        **(lineage.prefect.tags if lineage.prefect else {}),
        evidence.TAG: kept,
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
                ParamSpec("width", DataType.long, 0),
                ParamSpec("height", DataType.long, 0),
                ParamSpec("styles", DataType.string, ""),
                ParamSpec("acceleration", DataType.double, 1.0),
                ParamSpec("negative_prompt", DataType.string, ""),
            ]
        ),
    )
