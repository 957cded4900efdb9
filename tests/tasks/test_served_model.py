"""A registered adapter is found by alias and draws what it is asked, on real tiny weights."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import tiny_bases
import torch
from diffusers import LCMScheduler
from mixed_folders import same, save_mixed, weights
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModelContext
from numpy.typing import NDArray
from PIL import Image
from serving import (
    artifacts_of,
    base_of,
    drawn,
    looked_at,
    register_champion,
    serve,
    write_project,
)
from single_files import save_single_file, save_vae
from styles import write_style
from tiny_bases import save_configs, tiny_pipeline

from lcm_lora import layout
from lcm_lora.bases import load_base
from lcm_lora.families.family import FamilyName
from lcm_lora.files import write_json
from lcm_lora.painting.dressed import wearing
from lcm_lora.painting.paint import paint
from lcm_lora.painting.schedulers import scheduler_of
from lcm_lora.painting.subject import with_adapter
from lcm_lora.params.base import Base as BaseParams
from lcm_lora.params.file import load_params
from lcm_lora.params.generate import Cell
from lcm_lora.params.hardware import Hardware
from lcm_lora.precision import compute_in
from lcm_lora.recipe import Recipe
from lcm_lora.report.templates import render
from tasks.registry import served_model
from tasks.registry.publishing import publish_style
from tasks.registry.versions import Registered
from tasks.tracking.tracker import Tracker
from tasks.tracking.training import read_training

PRESET = Path(__file__).parents[2] / "lcm_lora" / "presets" / "shapes.yaml"
README = PRESET.parents[2] / "README.md"
STYLES = PRESET.parents[2] / "docs" / "styles.md"
PROMPT = "a small red ring on a navy background"


# --- the registry ---


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tracker, list[Registered]]:
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / '.mlflow' / 'mlflow.db'}")
        return register_champion(root)


@pytest.fixture(scope="module")
def model(registered: tuple[Tracker, list[Registered]]) -> Any:
    return mlflow.pyfunc.load_model(f"models:/{registered[1][0].name}@champion")


def test_the_same_adapter_is_the_same_version(
    registered: tuple[Tracker, list[Registered]],
) -> None:
    first, second = registered[1]
    assert (first.version, first.is_new) == ("1", True)
    assert (second.version, second.is_new) == ("1", False)


def test_a_version_names_its_base_by_hash(registered: tuple[Tracker, list[Registered]]) -> None:
    tracker, (version, _) = registered
    recipe = read_training(tracker.root).recipe
    tags = tracker.client.get_model_version(version.name, version.version).tags
    assert tags["base_sha256"] == recipe.base.sha256
    assert tags["base_model"] == recipe.base.model


def test_a_prompt_becomes_a_picture(model: Any) -> None:
    (picture,) = drawn(model, [PROMPT])
    assert (picture.shape, picture.dtype) == ((16, 16, 3), np.uint8)


def test_it_samples_as_the_adapter_was_distilled_to(model: Any) -> None:
    pipeline = model.unwrap_python_model()._pipeline
    assert isinstance(pipeline.scheduler, LCMScheduler)
    assert pipeline.get_active_adapters()
    drawn(model, [PROMPT], num_inference_steps=3)
    assert len(pipeline.scheduler.timesteps) == 3


def test_the_picture_is_a_function_of_prompt_steps_and_seed(model: Any) -> None:
    other = "a ring on a navy ring"
    (alone,) = drawn(model, [PROMPT], seed=3, num_inference_steps=2)
    _, together = drawn(model, [other, PROMPT], seed=3, num_inference_steps=2)
    (reseeded,) = drawn(model, [PROMPT], seed=4, num_inference_steps=2)
    (slower,) = drawn(model, [PROMPT], seed=3, num_inference_steps=4)
    assert np.array_equal(alone, together)
    assert len({picture.tobytes() for picture in (alone, reseeded, slower)}) == 3


@pytest.mark.parametrize("steps", [0, 9, -1])
def test_steps_out_of_range_are_refused(model: Any, steps: int) -> None:
    with pytest.raises((ValueError, MlflowException), match=f"{steps}; this model samples in 1 to"):
        drawn(model, [PROMPT], num_inference_steps=steps)


def test_an_empty_prompt_is_refused(model: Any) -> None:
    with pytest.raises((ValueError, MlflowException), match="prompt 2 of 2 is empty"):
        drawn(model, [PROMPT, "  "])


def test_a_version_takes_styles_when_it_is_loaded(
    registered: tuple[Tracker, list[Registered]], model: Any, tmp_path: Path
) -> None:
    ink = str(write_style(tmp_path / "ink.safetensors", "sd1", seed=1))
    uri = f"models:/{registered[1][0].name}@champion"
    dressed = mlflow.pyfunc.load_model(uri, model_config={"styles": {"ink": ink}})
    (plain,) = drawn(model, [PROMPT], num_inference_steps=2)
    (same,) = drawn(dressed, [PROMPT], num_inference_steps=2)
    (inked,) = drawn(dressed, [PROMPT], num_inference_steps=2, styles="ink:0.8")
    assert np.array_equal(plain, same)
    assert not np.array_equal(plain, inked)
    with pytest.raises((ValueError, MlflowException), match="'ink' is not allowed here"):
        drawn(model, [PROMPT], styles="ink:0.8")


# --- the base, by reference ---


@pytest.fixture(autouse=True)
def _nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LCM_LORA_BASE", "LCM_LORA_VAE", "LCM_LORA_STYLES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project on a tiny SDXL in a folder, stored in fp16."""
    root = tmp_path_factory.mktemp("by-reference")
    pipeline = tiny_pipeline("sdxl")
    pipeline.to(torch.float16).save_pretrained(root / "base")
    write_project(root, pipeline, BaseParams(model=str(root / "base")))
    return root


@pytest.fixture
def reference(project: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What a version of it carries, were its base large."""
    monkeypatch.setattr("tasks.registry.carried._LARGEST", 1)
    artifacts = artifacts_of(project)
    assert artifacts.keys() == {"adapter"}
    return artifacts


@pytest.fixture
def moved(project: Path, tmp_path: Path) -> Iterator[Path]:
    """The base, no longer where the recipe says."""
    shutil.move(project / "base", tmp_path / "moved")
    yield tmp_path / "moved"
    shutil.move(tmp_path / "moved", project / "base")


def test_a_small_base_travels_inside_with_what_is_read_of_it_alone(project: Path) -> None:
    (project / "base" / "card.md").write_text("about")
    inside = Path(artifacts_of(project)["base"])
    names = {p.relative_to(inside).as_posix() for p in inside.rglob("*") if p.is_file()}
    recipe = json.loads((project / layout.ADAPTER / "recipe.json").read_text())
    assert names == set(recipe["base"]["files"])
    assert "unet/diffusion_pytorch_model.safetensors" in names


def test_the_base_is_found_where_the_recipe_says(reference: dict[str, str]) -> None:
    assert len(drawn(serve(reference), [PROMPT])) == 1


@pytest.mark.parametrize("way", ["configuration", "environment"])
def test_the_base_is_found_where_the_user_says(
    way: str, reference: dict[str, str], moved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"base": str(moved)} if way == "configuration" else {}
    if not config:
        monkeypatch.setenv("LCM_LORA_BASE", str(moved))
    assert serve(reference, **config)._pipeline.unet.config.cross_attention_dim == 40


def test_a_base_that_is_not_here_is_said(reference: dict[str, str], moved: Path) -> None:
    with pytest.raises(
        FileNotFoundError,
        match=r"^base .*/base: no such file or folder; name .*/"
        r"base where it lies .* model_config=\{'base': PATH\} .* LCM_LORA_BASE$",
    ):
        serve(reference)


def test_another_base_is_refused_and_what_differs_is_said(
    reference: dict[str, str], project: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(project / "base", tmp_path / "other"))
    (other / "tokenizer" / "tokenizer_config.json").unlink()
    weights = other / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(
        ValueError,
        match=r"^base .*/other: not what this adapter was distilled from"
        r" \(tokenizer/tokenizer_config.json is missing, unet/diffusion_pytorch_"
        r"model.safetensors is another\); name ",
    ):
        serve(reference, base=str(other))


COMMIT = "c" * 40


@pytest.fixture
def on_hub(reference: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The adapter, were its base `team/base` on the hub; no network, and an empty cache."""
    adapter = Path(shutil.copytree(reference["adapter"], tmp_path / "adapter"))
    recipe = json.loads((adapter / "recipe.json").read_text())
    recipe["base"] |= {"model": "team/base", "revision": COMMIT}
    write_json(adapter / "recipe.json", recipe)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return adapter


def test_a_base_of_the_hub_is_found_in_its_cache(
    on_hub: Path, project: Path, tmp_path: Path
) -> None:
    snapshot = tmp_path / "hub" / "models--team--base" / "snapshots" / COMMIT
    shutil.copytree(project / "base", snapshot)
    assert len(drawn(serve({"adapter": str(on_hub)}), [PROMPT])) == 1


def test_the_silence_of_the_hub_is_one_line(on_hub: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^base team/base at c{40}: not in the hub cache"):
        serve({"adapter": str(on_hub)})


# --- the same pictures ---


def painted(root: Path, base: BaseParams) -> NDArray[np.uint8]:
    """Paint as the stages do, in float32; return picture 0 of noises 0 and seed 0."""
    loaded = load_base(looked_at(root, base), Hardware(device="cpu", precision="fp32"))
    subject = with_adapter(loaded.found, root / layout.ADAPTER)
    loaded.pipeline.scheduler = scheduler_of("lcm", {}, subject.lcm_config)
    with wearing(loaded, subject):
        (picture,) = paint(loaded, [PROMPT], Cell(steps=2, guidance=1.0), 16, 0)
    return np.asarray(picture)


def seed_of_picture_0() -> int:
    """Return the seed of the noise that `paint` begins picture 0 with."""
    state = np.random.SeedSequence((0, 0, 0)).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


@pytest.mark.parametrize(("family", "stored"), [("sd1", torch.float16), ("sdxl", torch.bfloat16)])
def test_a_base_stored_in_half_precision_is_served_as_the_stages_paint(
    family: FamilyName, stored: torch.dtype, tmp_path: Path
) -> None:
    pipeline = tiny_pipeline(family)
    pipeline.to(stored).save_pretrained(tmp_path / "base")
    base = BaseParams(model=str(tmp_path / "base"))
    write_project(tmp_path, pipeline, base)
    model = serve(artifacts_of(tmp_path))
    (picture,) = drawn(model, [PROMPT], num_inference_steps=2, seed=seed_of_picture_0())
    assert np.array_equal(picture, painted(tmp_path, base))


@pytest.mark.parametrize("family", ["sd2", "sdxl"])
def test_a_single_file_is_served_with_the_configuration_that_the_version_carries(
    family: FamilyName, tmp_path: Path
) -> None:
    pipeline = tiny_pipeline(family, "v_prediction")
    file = save_single_file(pipeline, tmp_path / "base.safetensors", torch.float16)
    config = save_configs(pipeline, tmp_path / "config")
    base = BaseParams(model=str(file), config=str(config), prediction_type="v_prediction")
    write_project(tmp_path, pipeline, base)
    expected, artifacts = painted(tmp_path, base), artifacts_of(tmp_path)
    assert artifacts.keys() == {"adapter", "base", "config"}
    shutil.rmtree(config)
    (picture,) = drawn(serve(artifacts), [PROMPT], num_inference_steps=2, seed=seed_of_picture_0())
    assert np.array_equal(picture, expected)


def test_another_autoencoder_is_served_too(tmp_path: Path) -> None:
    pipeline = tiny_pipeline("sd1")
    pipeline.save_pretrained(tmp_path / "base")
    autoencoder = other_vae()
    autoencoder.save_pretrained(tmp_path / "vae")
    base = BaseParams(model=str(tmp_path / "base"), vae=str(tmp_path / "vae"))
    write_project(tmp_path, pipeline, base)
    artifacts = artifacts_of(tmp_path)
    assert artifacts.keys() == {"adapter", "base", "vae"}
    model = serve(artifacts)
    (picture,) = drawn(model, [PROMPT], num_inference_steps=2, seed=seed_of_picture_0())
    assert np.array_equal(picture, painted(tmp_path, base))
    own, other = pipeline.vae.decoder.conv_in.weight, autoencoder.decoder.conv_in.weight
    assert torch.equal(model._pipeline.vae.decoder.conv_in.weight, other)
    assert not torch.equal(own, other)


def served_as_scored(root: Path, base: BaseParams, **found: str) -> bool:
    """Tell whether all weights that are served are those that the stages load."""
    known = looked_at(root, base)
    context = PythonModelContext(found, {})  # type: ignore[no-untyped-call]
    served = served_model._pipeline(context, base_of(known), torch.float32)
    scored = load_base(known, Hardware(device="cpu", precision="fp32"))
    return same(weights(served), weights(scored.pipeline))


def other_vae() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        return tiny_bases.autoencoder()


def test_parts_stored_each_in_its_own_way_are_served_as_they_were_scored(tmp_path: Path) -> None:
    sd1, sdxl, vae = tiny_pipeline("sd1"), tiny_pipeline("sdxl"), other_vae()
    one = save_mixed(sd1, tmp_path / "sd1", unet="shards", vae="half", text_encoder="both")
    assert served_as_scored(tmp_path, BaseParams(model=str(one)))
    # Another autoencoder in plain files, with the fp16 variant beside them.
    vae.save_pretrained(tmp_path / "vae", max_shard_size="20KB")
    copy.deepcopy(vae).half().save_pretrained(tmp_path / "vae", variant="fp16")
    forms = {"unet": "half shards", "text_encoder": "shards", "text_encoder_2": "half"}
    two = save_mixed(sdxl, tmp_path / "sdxl", **forms)
    assert served_as_scored(tmp_path, BaseParams(model=str(two), vae=str(tmp_path / "vae")))


def test_an_autoencoder_in_a_file_is_served_as_it_was_scored(tmp_path: Path) -> None:
    pipeline = tiny_pipeline("sd1")
    pipeline.save_pretrained(tmp_path / "base")
    file = save_single_file(pipeline, tmp_path / "bare.safetensors", without="first_stage_model")
    vae = save_vae(other_vae(), tmp_path / "vae.safetensors", "first_stage_model.")
    config = str(tmp_path / "base")
    assert served_as_scored(tmp_path, BaseParams(model=config, vae=str(vae)))
    single = BaseParams(model=str(file), config=config, vae=str(vae))
    assert served_as_scored(tmp_path, single, config=config)


def test_an_autoencoder_of_the_hub_may_name_its_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    tiny_pipeline("sd1").save_pretrained(tmp_path / "base")
    repository = tmp_path / "hub" / "models--team--vae"
    other_vae().save_pretrained(repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "fixed").write_text(COMMIT)
    base = BaseParams(model=str(tmp_path / "base"), vae="team/vae@fixed")
    assert looked_at(tmp_path, base).vae_commit == COMMIT
    assert served_as_scored(tmp_path, base)


@pytest.mark.parametrize("gone", ["unet/config.json", "."])
def test_of_a_base_that_vanished_nothing_is_carried(gone: str, tmp_path: Path) -> None:
    pipeline = tiny_pipeline("sd1")
    pipeline.save_pretrained(tmp_path / "base")
    write_project(tmp_path, pipeline, BaseParams(model=str(tmp_path / "base")))
    assert artifacts_of(tmp_path).keys() == {"adapter", "base"}
    path = tmp_path / "base" / gone
    path.unlink() if path.is_file() else shutil.rmtree(path)
    assert artifacts_of(tmp_path).keys() == {"adapter"}


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_the_served_denoiser_computes_in_half_precision_as_the_scored_one(
    family: FamilyName,
) -> None:
    def predict(compute: Any) -> torch.Tensor:
        unet = tiny_pipeline(family).unet.to(torch.bfloat16)
        compute(unet, torch.bfloat16)
        rng = torch.Generator().manual_seed(0)
        told: dict[str, Any] = {"encoder_hidden_states": torch.randn(1, 5, width, generator=rng)}
        if family == "sdxl":
            added = {"text_embeds": torch.randn(1, 24, generator=rng), "time_ids": TIME_IDS}
            told["added_cond_kwargs"] = added
        output: torch.Tensor = unet(torch.randn(1, 4, 8, 8, generator=rng), 999, **told).sample
        return output

    width = {"sd1": 16, "sdxl": 40}[family]
    served, scored = predict(served_model.compute_in), predict(compute_in)
    assert served.dtype == torch.float32
    assert torch.equal(served, scored)


TIME_IDS = torch.tensor([[1023.0, 1024.0, 0.0, 0.0, 1024.0, 1024.0]])


# --- what README and card say ---

SNIPPETS = """
import json, os, sys
import torch
readme, cards = json.load(sys.stdin)
for root, card in cards.items():
    made = {}
    os.chdir(f"{root}/artifacts/adapter")
    torch.manual_seed(0)
    exec(card, {})
    os.chdir(root)
    if os.path.exists("base"):
        exec(readme, {"BASE": f"{root}/base"}, made)
        assert made["picture"].size == (16, 16)
assert not any(name.partition(".")[0] in ("lcm_lora", "tasks", "flows") for name in sys.modules)
"""


def bf16(root: Path) -> Path:
    """Write a project on a folder in bf16; return its folder, as the others do."""
    pipeline = tiny_pipeline("sd1")
    pipeline.to(torch.bfloat16).save_pretrained(root / "base")
    write_project(root, pipeline, BaseParams(model=str(root / "base")))
    return root


def mixed_with_an_autoencoder_in_a_file(root: Path) -> Path:
    pipeline = tiny_pipeline("sd2")
    save_mixed(pipeline, root / "mixed", unet="half shards")
    vae = save_vae(other_vae(), root / "vae.safetensors")
    write_project(root, pipeline, BaseParams(model=str(root / "mixed"), vae=str(vae)))
    return root


def two_encoders(root: Path) -> Path:
    pipeline = tiny_pipeline("ssd1b")
    pipeline.save_pretrained(root / "base")
    write_project(root, pipeline, BaseParams(model=str(root / "base")))
    return root


def single_file(root: Path) -> Path:
    """Its name says fp16, as many do, and so do the files of the autoencoder that it lacks."""
    pipeline = tiny_pipeline("sd1")
    config = save_configs(pipeline, root / "config")
    file = root / "model.fp16.safetensors"
    save_single_file(pipeline, file, torch.float16, without="first_stage_model")
    other_vae().half().save_pretrained(root / "vae", variant="fp16")
    base = BaseParams(model=str(file), config=str(config), vae=str(root / "vae"))
    write_project(root, pipeline, base)
    return root


FORMS = (bf16, mixed_with_an_autoencoder_in_a_file, two_encoders, single_file)


def code(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def card_of(root: Path, **base: object) -> str:
    """Return the usage section of the card of a project's adapter."""
    recipe = json.loads((root / layout.ADAPTER / "recipe.json").read_text())
    recipe["base"] |= base
    made = Recipe.model_validate(recipe, strict=False)
    return render("use.md.j2", recipe=made, prompt=PROMPT, steps=2)


def test_the_snippets_run_without_this_project_and_paint_what_is_served(
    project: Path, tmp_path: Path
) -> None:
    roots = [project, *(write(tmp_path / write.__name__) for write in FORMS)]
    cards = {str(root): code(card_of(root))[0] for root in roots}
    subprocess.run(
        [sys.executable, "-c", SNIPPETS],
        input=json.dumps([code(README.read_text())[0], cards]),
        text=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )
    for root in roots:
        plain = np.asarray(Image.open(root / layout.ADAPTER / "picture.png"))
        (served,) = drawn(serve(artifacts_of(root)), [PROMPT], num_inference_steps=2, seed=0)
        assert np.array_equal(plain, served)


def test_the_snippet_of_the_registry_runs(
    registered: tuple[Tracker, list[Registered]],
) -> None:
    made: dict[str, Any] = {}
    exec(code(README.read_text())[1], made)
    assert list(made["answer"].columns) == ["image"]


def test_the_snippet_of_the_guide_to_styles_runs(
    registered: tuple[Tracker, list[Registered]], tmp_path: Path
) -> None:
    tracker = registered[0]
    base = BaseParams(model=str(tracker.root / "base elsewhere"))
    params = load_params(PRESET).model_copy(update={"base": base})
    ink = write_style(tmp_path / "ink.safetensors", "sd1", seed=1)
    publish_style(tracker, params, "ink", ink)
    made: dict[str, Any] = {}
    exec(code(STYLES.read_text())[0], made)
    assert list(made["picture"].columns) == ["image"]


def test_the_card_knows_where_every_form_of_a_base_comes_from(project: Path) -> None:
    hub = card_of(project, model="team/base", revision="abc", vae="team/vae")
    assert 'revision="abc"' in hub
    assert 'AutoencoderKL.from_pretrained(\n    "team/vae",\n    torch_dtype' in hub
    pinned = card_of(project, vae="team/vae@fixed", vae_revision="abc")
    assert '    "team/vae",\n    revision="abc",\n    torch_dtype' in pinned
    single = card_of(project, model="/some/base.safetensors")
    assert "# Without config=FOLDER, diffusers fetches" in single
    assert "StableDiffusionXLPipeline.from_single_file(" in single
    shapes = card_of(project, model="shapes")
    assert "import lcm_lora  # its package holds the base model" in shapes
    for text in (hub, pinned, single, shapes):
        compile(code(text)[0], "card", "exec")
