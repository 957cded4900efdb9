"""Image sets: the same noise everywhere, no trace of the batch, the same pictures elsewhere."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from making import make_adapter, shapes_base
from numpy.typing import NDArray

from lcm_lora.bases import Base
from lcm_lora.data.picture_sets import read_set
from lcm_lora.data.shards import read_tar_members
from lcm_lora.errors import UserError
from lcm_lora.evaluation.image_sets import captions_of, generated_sets
from lcm_lora.files import sha256
from lcm_lora.params.generate import SAMPLERS, Cell, Generate
from lcm_lora.sampling import generate, load_adapter, paint, scheduler_of
from lcm_lora.shapes import places

CAPTIONS = [f"a small {c} ring on a navy background" for c in ("red", "blue", "green", "pink")]


@pytest.fixture(scope="session")
def adapter(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("adapter")
    return make_adapter(home, cache, steps=4, rank=4, alpha=8, learning_rate=2e-3)


@pytest.fixture(scope="session")
def evaluation(data: Path) -> Path:
    return data / "data" / "evaluation"


def pictures(base: Base, sampler: str, adapter: Path, cell: Cell, batch: int) -> NDArray[np.uint8]:
    base.pipeline.scheduler = scheduler_of(sampler, base, adapter)  # type: ignore[arg-type]
    return np.stack(list(paint(base, CAPTIONS, cell, 32, 11, batch, lambda *_: None)))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_picture_does_not_depend_on_its_batch(sampler: str, base: Base, adapter: Path) -> None:
    if sampler == "lcm":
        load_adapter(base, adapter)
    cell = Cell(steps=3, guidance=1.0 if sampler == "lcm" else 3.0)
    together, alone = (pictures(base, sampler, adapter, cell, b).astype(int) for b in (4, 1))
    assert np.abs(together - alone).max() <= 1  # other kernels for other batches: the last bit


def test_one_step_of_every_classical_solver_is_the_same_estimate(base: Base, adapter: Path) -> None:
    """From pure noise each one's first step is DDIM's; so all start from equal noise at t = 999."""
    cell = Cell(steps=1, guidance=3.0)
    ddim, dpmpp, unipc = (
        pictures(base, name, adapter, cell, 4).astype(int) for name in ("ddim", "dpmpp", "unipc")
    )
    assert np.abs(ddim - dpmpp).mean() < 4
    assert np.abs(ddim - unipc).mean() < 4


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_every_sampler_starts_at_the_noisiest_level(
    sampler: str, steps: int, base: Base, adapter: Path
) -> None:
    scheduler = scheduler_of(sampler, base, adapter)  # type: ignore[arg-type]
    scheduler.set_timesteps(steps)
    assert int(scheduler.timesteps[0]) == 999
    assert len(scheduler.timesteps) == steps


def params() -> Generate:
    cells = {name: (Cell(steps=2, guidance=1.0),) for name in SAMPLERS}
    return Generate(batch=3, seed=3, cells=cells)  # type: ignore[arg-type]


def test_an_image_set_is_written_whole_and_the_same_twice(
    evaluation: Path, adapter: Path, tmp_path: Path
) -> None:
    for name in "ab":
        generate(params(), "lcm", shapes_base(), evaluation, adapter, tmp_path / name)
    tar = tmp_path / "a" / "steps-2_guidance-1.tar"
    for file in (tar, tar.with_suffix(".json"), tar.with_name("captions.json")):
        assert sha256(file) == sha256(tmp_path / "b" / file.name)
    assert [name for name, _ in read_tar_members(tar)] == [f"{i:08d}.png" for i in range(4)]
    record = json.loads(tar.with_suffix(".json").read_text())
    assert (record["nfe"], record["count"]) == (2, 4)
    assert record["scheduler"] == {"class": "LCMScheduler", "timesteps": [999, 499]}
    assert record["tar_sha256"] == sha256(tar)


def test_an_image_set_is_read_back_with_the_captions_of_the_evaluation_set(
    evaluation: Path, base: Base, tmp_path: Path
) -> None:
    generate(params(), "ddim", base, evaluation, tmp_path / "no adapter", tmp_path / "ddim")
    captions = read_set(evaluation, "real").captions
    assert captions_of(tmp_path / "ddim") == captions
    (found,) = generated_sets(tmp_path / "ddim", "ddim")
    assert (found.captions, found.sampler, found.steps, found.nfe) == (captions, "ddim", 2, 2)
    assert found.ms_per_image is not None
    assert found.ms_per_image > 0
    assert len(list(found.pngs())) == len(captions) == 4


def test_a_missing_evaluation_set_is_said(adapter: Path, base: Base, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"real\.json: no such file; run `lcm-lora prepare`"):
        generate(params(), "ddim", base, tmp_path, adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_adapter_is_said(evaluation: Path, base: Base, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"recipe\.json: no such file; run `lcm-lora select`"):
        generate(params(), "lcm", base, evaluation, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_weights_are_refused(adapter: Path, base: Base, tmp_path: Path) -> None:
    shutil.copytree(adapter, tmp_path / "adapter")
    weights = tmp_path / "adapter" / "pytorch_lora_weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match=r"safetensors: damaged, .*; run `lcm-lora select`"):
        load_adapter(base, tmp_path / "adapter")


def test_an_adapter_of_another_base_is_refused(adapter: Path, base: Base) -> None:
    found = base.found.model_copy(update={"model": "team/other", "sha256": "f" * 64})
    other = dataclasses.replace(base, found=found)
    with pytest.raises(UserError, match=r"distilled from shapes .* base is team/other \(f{12}\);"):
        load_adapter(other, adapter)


PLAIN = """
import json, sys
import numpy, torch
from diffusers import LCMScheduler, StableDiffusionPipeline
torch.set_num_threads(1)
base, adapter, noise, out, captions = sys.argv[1:]
pipe = StableDiffusionPipeline.from_pretrained(base, safety_checker=None)
pipe.load_lora_weights(adapter)
pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)
images = []
for i, caption in enumerate(json.loads(captions)):
    state = numpy.random.SeedSequence((11, 0, i)).generate_state(1, numpy.uint64)
    generator = torch.Generator().manual_seed(int(state[0] >> numpy.uint64(1)))
    latents = torch.randn((1, 8, 8, 8), generator=generator)
    images += list(pipe([caption], latents=latents, generator=[generator],
                        num_inference_steps=4, guidance_scale=1.0, output_type="np").images)
numpy.save(out, (numpy.stack(images) * 255).round().astype("uint8"))
assert not any(name.startswith("lcm_lora") for name in sys.modules)
"""


def test_plain_diffusers_paints_the_same_pictures(
    base: Base, adapter: Path, tmp_path: Path
) -> None:
    """In a process of its own that never imports this project, with nothing but the two folders."""
    out = tmp_path / "plain.npy"
    arguments = [str(places.BASE), str(adapter), "-", str(out), json.dumps(CAPTIONS)]
    subprocess.run([sys.executable, "-c", PLAIN, *arguments], check=True, cwd=tmp_path)
    load_adapter(base, adapter)
    ours = pictures(base, "lcm", adapter, Cell(steps=4, guidance=1.0), 1)
    assert np.array_equal(ours, np.load(out))
