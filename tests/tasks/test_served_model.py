"""A registered adapter is found by alias and draws what it is asked, on real tiny weights."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import torch
from diffusers import LCMScheduler, StableDiffusionPipeline
from mlflow.exceptions import MlflowException
from PIL import Image
from recipes import recipe_of

from lcm_lora import layout
from lcm_lora.adapter import attach, write_adapter
from lcm_lora.evaluation.table import Table
from lcm_lora.files import sha256, write_json
from lcm_lora.params.file import load_params
from lcm_lora.shapes import architecture
from tasks.gate import Decision
from tasks.registry import Registered, promote, register
from tasks.tracking import Tracker, connect
from tasks.training import read_training

PRESET = Path(__file__).parents[2] / "lcm_lora" / "presets" / "shapes.yaml"
ORIGIN = {"git_commit": "abc", "git_dirty": True, "code_sha256": "def"}
PROMPT = "a small red circle on a white ground"


def write_project(root: Path) -> None:
    """Write an untrained base, an adapter of it, and the lock that DVC would have written."""
    torch.manual_seed(0)
    words = architecture.tokenizer([PROMPT])
    pipeline = StableDiffusionPipeline(
        vae=architecture.autoencoder(),
        text_encoder=architecture.text_encoder(words),
        tokenizer=words,
        unet=architecture.unet(),
        scheduler=architecture.scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(root / "base")
    for parameter in attach(pipeline.unet, rank=2, alpha=2, seed=0):
        torch.nn.init.normal_(parameter, std=0.1)
    adapter = root / layout.ADAPTER
    adapter.mkdir(parents=True)
    write_adapter(pipeline.unet, adapter, torch.float32)
    scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    recipe = recipe_of(
        sha256(adapter / "pytorch_lora_weights.safetensors"),
        scheduler={"class": "LCMScheduler", "config": dict(scheduler.config)},
    )
    write_json(adapter / "recipe.json", recipe)
    write_json(root / layout.TRAINING / "origin.json", ORIGIN)
    row = {"step": 1, "loss": 0.5, "grad_norm": 1.0, "learning_rate": 0.1}
    (root / layout.TRAINING / "curve.jsonl").write_text(json.dumps(row) + "\n")
    (root / layout.REPORT).mkdir(parents=True)
    (root / layout.REPORT / "model_card.md").write_text("---\n---\n\n# Tiny\n")
    outs = [{"path": str(path), "md5": path.name} for path in (layout.ADAPTER, layout.SHARDS)]
    (root / "dvc.lock").write_text(json.dumps({"stages": {"all": {"outs": outs}}}))


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tracker, list[Registered]]:
    root = tmp_path_factory.mktemp("project")
    write_project(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / '.mlflow' / 'mlflow.db'}")
        tracker = connect(root, "tiny")
    params, scores = load_params(PRESET), Table(protocol={"sha256": "one"}, rows=(), paired=())
    training = read_training(root)
    run = tracker.adopt_training(training)
    versions = [register.fn(tracker, run, params, training, scores) for _ in range(2)]
    promote.fn(tracker, versions[0], Decision(True, "the first"))
    # A version carries all it needs.
    (root / "base").rename(root / "base elsewhere")
    return tracker, versions


@pytest.fixture(scope="module")
def model(registered: tuple[Tracker, list[Registered]]) -> Any:
    return mlflow.pyfunc.load_model(f"models:/{registered[1][0].name}@champion")


def draw(model: Any, prompts: list[str], **params: object) -> list[str]:
    return list(model.predict(pd.DataFrame({"prompt": prompts}), params=params)["image"])


def test_the_same_adapter_is_the_same_version(
    registered: tuple[Tracker, list[Registered]],
) -> None:
    first, second = registered[1]
    assert (first.version, first.is_new) == ("1", True)
    assert (second.version, second.is_new) == ("1", False)


def test_a_prompt_becomes_a_picture(model: Any) -> None:
    (image,) = draw(model, [PROMPT])
    picture = Image.open(io.BytesIO(base64.b64decode(image)))
    assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (32, 32))


def test_it_samples_as_the_adapter_was_distilled_to(model: Any) -> None:
    pipeline = model.unwrap_python_model()._pipeline
    assert isinstance(pipeline.scheduler, LCMScheduler)
    assert pipeline.get_active_adapters()
    draw(model, [PROMPT], num_inference_steps=3)
    assert len(pipeline.scheduler.timesteps) == 3


def test_the_picture_is_a_function_of_prompt_steps_and_seed(model: Any) -> None:
    other = "a large blue ring"
    (alone,) = draw(model, [PROMPT], seed=3, num_inference_steps=2)
    _, together = draw(model, [other, PROMPT], seed=3, num_inference_steps=2)
    (reseeded,) = draw(model, [PROMPT], seed=4, num_inference_steps=2)
    (slower,) = draw(model, [PROMPT], seed=3, num_inference_steps=4)
    assert alone == together
    assert len({alone, reseeded, slower}) == 3


@pytest.mark.parametrize("steps", [0, 9, -1])
def test_steps_out_of_range_are_refused(model: Any, steps: int) -> None:
    with pytest.raises((ValueError, MlflowException), match=f"{steps}; this model samples in 1 to"):
        draw(model, [PROMPT], num_inference_steps=steps)


def test_an_empty_prompt_is_refused(model: Any) -> None:
    with pytest.raises((ValueError, MlflowException), match="prompt 2 of 2 is empty"):
        draw(model, [PROMPT, "  "])
