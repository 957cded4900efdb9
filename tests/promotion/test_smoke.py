"""A version must paint, through the registry, what the stage painted when it was scored."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image
from promoting import Model, mlflow_in
from serving import artifacts_of, write_project
from tiny_bases import tiny_pipeline

from lcm_lora import layout
from lcm_lora.data.picture_sets import PictureSet
from lcm_lora.errors import UserError
from lcm_lora.files import sha256
from lcm_lora.params.base import Base as BaseParams
from lcm_lora.recipe import read_recipe
from lcm_lora.records import write_record
from lcm_lora.smoke import Smoke, pixels_sha256, read_smoke
from lcm_lora.stages import smoke as stage
from tasks.champions import repaint, smoke
from tasks.champions.activation import activate
from tasks.history.entry import Note
from tasks.registry import served_model
from tasks.registry.versions import signature

pytestmark = pytest.mark.usefixtures("warm_starts")

PRESET = Path(__file__).parents[2] / "lcm_lora" / "presets" / "shapes.yaml"
PROMPTS = ("a small red ring", "a navy background", "a ring")


def paint(root: Path, count: int) -> Path:
    """Run the stage in a project; return what it wrote."""
    text = PRESET.read_text().replace("smoke: 2 ", f"smoke: {count} ")
    (root / layout.PARAMS).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        stage.run()
    return root / layout.SMOKE


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project on a tiny base, with an adapter and its smoke pictures. Read only."""
    root = tmp_path_factory.mktemp("project")
    pipeline = tiny_pipeline("sd1")
    pipeline.save_pretrained(root / "base")
    write_project(root, pipeline, BaseParams(model=str(root / "base")))
    real = PictureSet(resolution=24, captions=PROMPTS, sources=(), tar_sha256="")
    write_record(root / layout.EVALUATION / "real.json", real)
    paint(root, 2)
    return root


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowClient]:
    with mlflow_in(tmp_path_factory.mktemp("registry")) as client:
        yield client


def register(client: MlflowClient, name: str, root: Path, folder: Path) -> Model:
    """Register a project's adapter with its smoke pictures as evidence, as a run would."""
    model, recipe = Model(client, name, folder), read_recipe(root / layout.ADAPTER)
    saved = folder / "saved"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.pyfunc.save_model(
            str(saved),
            python_model=str(served_model.__file__),
            artifacts=artifacts_of(root),
            model_config={"base": None, "vae": None, "styles": None},
            signature=signature(recipe.recommended),
            pip_requirements=[],
        )
    evidence = folder / "evidence"
    shutil.copytree(root / layout.SMOKE, evidence / "smoke")
    files = sorted((evidence / "smoke").iterdir())
    sums = "".join(f"{sha256(file)}  smoke/{file.name}\n" for file in files)
    (evidence / "SHA256SUMS").write_text(sums)
    run = client.create_run(client.create_experiment(name, (folder / "runs").as_uri()))
    client.log_artifacts(run.info.run_id, str(evidence), "evidence")
    digest = hashlib.sha256(sums.encode()).hexdigest()
    tags = {
        "adapter_sha256": recipe.weights_sha256,
        "evidence": f"{digest}  evidence/SHA256SUMS",
    }
    client.create_model_version(name, saved.as_uri(), run.info.run_id, tags=tags)
    return model


def note() -> Note:
    return Note(version="1", before=None, by="Anna", why="rings are rounder")


def test_the_stage_says_all_that_the_served_model_has_to_be_asked(project: Path) -> None:
    record = read_smoke(project / layout.SMOKE, "")
    recipe = read_recipe(project / layout.ADAPTER)
    assert record.adapter_sha256 == recipe.weights_sha256
    assert [one.prompt for one in record.pictures] == list(PROMPTS[:2])
    assert {(one.steps, one.guidance) for one in record.pictures} == {(4, 1.0)}
    for one in record.pictures:
        with Image.open(project / layout.SMOKE / one.file) as opened:
            picture = np.asarray(opened)
        assert picture.shape == (16, 16, 3)  # the base's own size, not that of the evaluation
        assert pixels_sha256(picture) == one.pixels_sha256


def test_painted_again_it_is_the_same_to_the_byte(project: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(project, tmp_path / "project"))
    assert sha256(paint(root, 2)) == sha256(project / layout.SMOKE)


def test_without_pictures_nothing_is_painted(project: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(project, tmp_path / "project"))
    shutil.rmtree(root / "base")  # nor looked at
    record = read_smoke(paint(root, 0), "")
    assert record.pictures == ()
    assert [path.name for path in (root / layout.SMOKE).iterdir()] == ["smoke.json"]


def test_a_version_paints_to_the_bit_what_was_scored_and_becomes_champion(
    project: Path, registry: MlflowClient, tmp_path: Path
) -> None:
    model = register(registry, "sound", project, tmp_path)
    said = smoke.check(registry, "sound", "1", 2)
    assert said == "2 pictures painted as when it was scored, to the bit"
    with pytest.raises(UserError, match=r"with 2 smoke pictures, and registry\.smoke asks for 3"):
        activate(registry, "sound", note(), pictures=3)
    assert model.aliases == {}


def test_a_version_that_paints_otherwise_does_not_become_champion(
    project: Path, registry: MlflowClient, tmp_path: Path
) -> None:
    """Such as where the base, or the code that loads it, is another than when it was scored."""
    model = register(registry, "other", project, tmp_path)
    code = next((tmp_path / "saved").glob("*.py"))
    code.write_text(code.read_text().replace("LCMScheduler", "DDIMScheduler"))
    with pytest.raises(
        UserError, match=r"^other version 1: does not paint as when it was scored"
    ) as c:
        activate(registry, "other", note(), pictures=2)
    assert "levels of 255 on average" in str(c.value)
    assert "\n" not in str(c.value)
    assert model.aliases == {}


class Painter:
    """A model that paints the pictures of a folder, some levels brighter."""

    def __init__(self, folder: Path, brighter: int) -> None:
        self.folder, self.brighter = folder, brighter
        self.asked: list[dict[str, object]] = []

    def predict(self, frame: object, params: dict[str, object]) -> dict[str, list[str]]:
        import base64
        import io

        with Image.open(self.folder / f"{len(self.asked)}.png") as opened:
            picture = np.asarray(opened).astype(int)
        self.asked.append(params)
        away = np.where(picture < 128, picture + self.brighter, picture - self.brighter)
        png = io.BytesIO()
        Image.fromarray(away.astype(np.uint8)).save(png, "PNG")
        return {"image": [base64.b64encode(png.getvalue()).decode()]}


def painted(folder: Path, brighter: int = 0) -> str:
    return repaint.paint_again(Painter(folder, brighter), read_smoke(folder, ""), folder)


def test_rounding_is_told_from_another_picture(project: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(project / layout.SMOKE, tmp_path / "smoke"))
    assert painted(folder).endswith("to the bit")
    assert painted(folder, 3).endswith("3.00 levels of 255 apart")
    with pytest.raises(
        UserError, match=r"differs by 5\.0 levels of 255 on average, more than the 4"
    ):
        painted(folder, 5)


def test_an_altered_picture_is_no_measure(project: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(project / layout.SMOKE, tmp_path / "smoke"))
    shutil.copy(folder / "1.png", folder / "0.png")
    with pytest.raises(UserError, match=r"0.png \('a small red ring'\) was altered since"):
        painted(folder, 1)


def test_evidence_that_was_altered_is_refused(
    project: Path, registry: MlflowClient, tmp_path: Path
) -> None:
    register(registry, "altered", project, tmp_path)
    (file,) = (tmp_path / "runs").rglob("smoke.json")
    record = Smoke.model_validate_json(file.read_text())
    file.write_text(json.dumps(record.model_copy(update={"pictures": ()}).model_dump()))
    with pytest.raises(UserError, match=r"smoke\.json of its evidence is damaged"):
        smoke.check(registry, "altered", "1", 2)
