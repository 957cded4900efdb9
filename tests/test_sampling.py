"""Image sets: the same noise everywhere, no trace of the batch, the same pictures elsewhere."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lcm_lora.bases import SHAPES, Base, load_base
from lcm_lora.data.shards import read_tar_members
from lcm_lora.errors import UserError
from lcm_lora.files import sha256
from lcm_lora.params import SAMPLERS, Cell, Distill, Generate, Guidance, Hardware
from lcm_lora.params import Base as BaseParams
from lcm_lora.sampling import generate, load_adapter, paint, scheduler_of
from lcm_lora.training.recipe import distill

CPU = Hardware(device="cpu", precision="fp32", threads=1)
CAPTIONS = [f"a small {c} ring on a navy background" for c in ("red", "blue", "green", "pink")]


@pytest.fixture(scope="session")
def adapter(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("adapter")
    guidance = Guidance(convention="imagen", low=3, high=3)
    params = Distill(steps=4, batch=8, guidance=guidance, rank=4, alpha=8, learning_rate=2e-3)
    base = load_base(BaseParams(), CPU)
    distill(params, CPU, base, cache, home / "state", home / "adapter", home / "curve", "0" * 40)
    return home / "adapter"


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
    return Generate(prompts=5, batch=2, seed=3, cells=cells)  # type: ignore[arg-type]


def test_an_image_set_is_written_whole_and_the_same_twice(
    shards: Path, adapter: Path, tmp_path: Path
) -> None:
    for name in "ab":
        base = load_base(BaseParams(), CPU)
        generate(params(), "lcm", base, shards, adapter, tmp_path / name)
    tar = tmp_path / "a" / "steps-2_guidance-1.tar"
    assert sha256(tar) == sha256(tmp_path / "b" / tar.name)
    assert [name for name, _ in read_tar_members(tar)] == [f"{i:08d}.png" for i in range(5)]
    record = json.loads((tmp_path / "a" / "steps-2_guidance-1.json").read_text())
    assert (record["nfe"], record["scheduler"]["timesteps"]) == (2, [999, 499])
    assert len(json.loads((tmp_path / "a" / "captions.json").read_text())) == 5


def test_too_few_captions_are_said(shards: Path, base: Base, tmp_path: Path) -> None:
    many = params().model_copy(update={"prompts": 500})
    with pytest.raises(UserError, match=r"generate\.prompts: 500 asked for"):
        generate(many, "ddim", base, shards, tmp_path, tmp_path / "out")


def test_a_missing_adapter_is_said(shards: Path, base: Base, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run `lcm-lora distill`"):
        generate(params(), "lcm", base, shards, tmp_path, tmp_path / "out")


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
    arguments = [str(SHAPES), str(adapter), "-", str(out), json.dumps(CAPTIONS)]
    subprocess.run([sys.executable, "-c", PLAIN, *arguments], check=True, cwd=tmp_path)
    load_adapter(base, adapter)
    ours = pictures(base, "lcm", adapter, Cell(steps=4, guidance=1.0), 1)
    assert np.array_equal(ours, np.load(out))
