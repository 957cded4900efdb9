"""A small project with an adapter, and the registered model that serves it: for several tests."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from diffusers import LCMScheduler
from mlflow.pyfunc import PythonModelContext
from numpy.typing import NDArray
from PIL import Image
from recipes import recipe_of
from tiny_bases import tiny_pipeline

from lcm_lora import layout
from lcm_lora.adapter import attach, write_adapter
from lcm_lora.candidates import candidate_name
from lcm_lora.evaluation.selection import JudgedCandidate, Selection
from lcm_lora.families.found import BaseInventory
from lcm_lora.files import sha256, write_json
from lcm_lora.gate.decision import Decision
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base import look_at_base
from lcm_lora.params.base import Base as BaseParams
from lcm_lora.params.file import load_params
from lcm_lora.recipe import Recipe
from lcm_lora.records import write_record
from tasks.champions.promotion import promote
from tasks.registry.carried import carried
from tasks.registry.served_model import FewStepPictures
from tasks.registry.versions import Registered, register
from tasks.tracking.connecting import connect
from tasks.tracking.tracker import Tracker
from tasks.tracking.training import read_training

PRESET = Path(__file__).parents[1] / "lcm_lora" / "presets" / "shapes.yaml"
_ORIGIN = {"git_commit": "abc", "git_dirty": True, "code_sha256": "def"}
_SELECTION = Selection(
    metric="attributes",
    lower_is_better=False,
    steps=4,
    guidance=1.0,
    prompts=1,
    rows=(JudgedCandidate(step=1, value=0.5, se=0.1),),
    chosen=1,
)


def write_project(root: Path, pipeline: Any, base: BaseParams) -> None:
    """Write an adapter of a base that lies somewhere, and what the first look says of the base."""
    found = looked_at(root, base)
    write_record(root / layout.INVENTORY / "base.json", found)
    for parameter in attach(pipeline.unet.requires_grad_(False), rank=2, alpha=7, seed=0):
        torch.nn.init.normal_(parameter, std=0.1)
    adapter = root / layout.ADAPTER
    adapter.mkdir(parents=True)
    write_adapter(pipeline.unet, adapter, torch.float16, {"ss_v2": "False"})
    scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    recipe = recipe_of(
        sha256(adapter / "pytorch_lora_weights.safetensors"),
        scheduler={"class": "LCMScheduler", "config": dict(scheduler.config)},
        hardware={"precision": "bf16"},
        base=base_of(found),
    )
    write_json(adapter / "recipe.json", recipe)


def register_champion(root: Path) -> tuple[Tracker, list[Registered]]:
    """Register the adapter of a tiny base twice, in an empty folder, and make it champion."""
    pipeline = tiny_pipeline("sd1")
    pipeline.save_pretrained(root / "base")
    write_project(root, pipeline, BaseParams(model=str(root / "base")))
    candidate = root / layout.CANDIDATES / candidate_name(1)
    shutil.copytree(root / layout.ADAPTER, candidate)
    write_record(root / layout.SELECTED, _SELECTION)
    write_json(root / layout.TRAINING / "origin.json", _ORIGIN)
    row = {"step": 1, "loss": 0.5, "grad_norm": 1.0, "learning_rate": 0.1}
    (root / layout.TRAINING / "curve.jsonl").write_text(json.dumps(row) + "\n")
    (root / layout.REPORT).mkdir(parents=True)
    (root / layout.REPORT / "model_card.md").write_text("---\n---\n\n# Tiny\n")
    outs = [{"path": str(path), "md5": path.name} for path in (layout.ADAPTER, layout.SHARDS)]
    (root / "dvc.lock").write_text(json.dumps({"stages": {"all": {"outs": outs}}}))
    tracker = connect(root, "tiny")
    params, training = load_params(PRESET), read_training(root)
    decision = Decision(
        promote=True,
        reason="the first",
        champion=None,
        adapter_sha256=training.recipe.weights_sha256,
        protocol_sha256="one",
        rules=(),
    )
    write_record(root / layout.DECISION, decision)
    write_json(root / layout.SCORES, {})
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=root, check=True)
    run = tracker.adopt_training(training)
    tracker.client.set_tag(run, "evaluation_at", "scores/one")
    versions = [register.fn(tracker, run, params, training, decision) for _ in range(2)]
    promote.fn(tracker, versions[0], decision, params.registry.model_copy(update={"smoke": 0}))
    # A version carries all it needs.
    (root / "base").rename(root / "base elsewhere")
    return tracker, versions


def looked_at(root: Path, base: BaseParams) -> BaseInventory:
    with Hashes(root / ".checkpoints" / "hashes.sqlite") as hashes:
        return look_at_base(base, hashes)


def base_of(found: BaseInventory) -> dict[str, Any]:
    """Return what a recipe says of the base that was found."""
    return {
        "model": found.model,
        "revision": found.commit,
        "family": found.structure.family,
        "sha256": found.sha256,
        "files": found.files,
        "config": found.config,
        "vae": found.vae,
        "vae_revision": found.vae_commit,
    }


def artifacts_of(root: Path) -> dict[str, str]:
    """Return what a version of a project's adapter carries."""
    recipe = Recipe.model_validate_json((root / layout.ADAPTER / "recipe.json").read_text())
    folder = Path(tempfile.mkdtemp(dir=root))
    return {name: str(path) for name, path in carried(root, recipe.base, folder).items()}


def serve(artifacts: dict[str, str], **config: object) -> FewStepPictures:
    model = FewStepPictures()
    model.load_context(PythonModelContext(artifacts, config))  # type: ignore[no-untyped-call]
    return model


def drawn(model: Any, prompts: list[str], **params: object) -> list[NDArray[np.uint8]]:
    frame = pd.DataFrame({"prompt": prompts})
    if isinstance(model, FewStepPictures):
        images = model.predict(None, frame, dict(params))["image"]  # type: ignore[arg-type]
    else:
        images = model.predict(frame, params=params)["image"]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(image)))) for image in images]
