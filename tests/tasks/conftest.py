"""What tests share: an MLflow, whose database takes seconds to make, and tiny bases and styles."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lcm_lora.params.file import Params
    from tasks.tracking.tracker import Tracker


PRESET = Path(__file__).parents[2] / "lcm_lora" / "presets" / "shapes.yaml"


@pytest.fixture(scope="session")
def _mlflow_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="module")
def mlflow_folder(_mlflow_folder: Path) -> Iterator[Path]:
    """The folder of an MLflow, which a module's tests are at."""
    with pytest.MonkeyPatch.context() as patch:
        database = _mlflow_folder / ".mlflow" / "mlflow.db"
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
        yield _mlflow_folder


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny bases, a fine-tune of one, and styles for them. Read only."""
    from safetensors.torch import load_file, save_file
    from styles import write_style, write_style_of
    from tiny_bases import tiny_pipeline

    folder = tmp_path_factory.mktemp("bases")
    for family in ("sd1", "sdxl"):
        pipeline = tiny_pipeline(family)  # type: ignore[arg-type]
        pipeline.save_pretrained(folder / family)
        write_style_of(pipeline, folder / f"{family}.safetensors", seed=1)
    write_style(folder / "other.safetensors", "sd1", seed=2)
    shutil.copytree(folder / "sd1", folder / "dusk")
    weights = folder / "dusk" / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = {name: tensor * 1.5 for name, tensor in load_file(weights).items()}
    save_file(tensors, weights, {"format": "pt"})
    return folder


@pytest.fixture
def tracker(mlflow_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tracker:
    """A project's folder of its own, where one is, at an MLflow that all share."""
    from tasks.tracking.connecting import connect
    from tasks.tracking.tracker import Tracker

    monkeypatch.chdir(tmp_path)
    known = connect(mlflow_folder, "modules")
    return Tracker(known.client, known.experiment_id, tmp_path)


@pytest.fixture
def params(tracker: Tracker, bases: Path) -> Params:
    """Parameters on the tiny base, and a registered model of the test's own."""
    from lcm_lora.params.base import Base
    from lcm_lora.params.file import load_params

    params = load_params(PRESET)
    registry = params.registry.model_copy(update={"name": tracker.root.name})
    return params.model_copy(update={"registry": registry, "base": Base(model=str(bases / "sd1"))})
