"""A small project with an adapter, and the registered model that serves it: for several tests."""

from __future__ import annotations

import base64
import io
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

from lcm_lora import layout
from lcm_lora.adapter import attach, write_adapter
from lcm_lora.families.found import BaseInventory
from lcm_lora.files import sha256, write_json
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base import look_at_base
from lcm_lora.params.base import Base as BaseParams
from lcm_lora.recipe import Recipe
from lcm_lora.records import write_record
from tasks.carried import carried
from tasks.served_model import FewStepPictures


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
