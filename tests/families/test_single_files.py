"""A single file is the same base as the folder it was written from, offline, in every family."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import PNDMScheduler
from making import CPU
from mixed_folders import same, weights
from safetensors.torch import load_file, save_file
from single_files import save_single_file, save_vae
from tiny_bases import autoencoder, save_configs, tiny_pipeline

from lcm_lora.bases import Base, load_base
from lcm_lora.errors import UserError
from lcm_lora.families.autoencoder import load_vae
from lcm_lora.families.family import FAMILIES, FamilyName
from lcm_lora.families.loading import clip_tokenizer
from lcm_lora.families.vocabulary import find_merges, merges_sha256
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base import look_at_base
from lcm_lora.inventory.base_files import where_is
from lcm_lora.params.base import Base as BaseParams


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no-hub"))


def opened(hashes: Hashes, **params: Any) -> Base:
    wanted = {name: str(v) if isinstance(v, Path) else v for name, v in params.items()}
    return load_base(look_at_base(BaseParams(**wanted), hashes), CPU)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_a_single_file_is_the_folder_that_it_was_written_from(
    family: FamilyName, prediction_type: str, hashes: Hashes, tmp_path: Path
) -> None:
    pipeline = tiny_pipeline(family, prediction_type)
    pipeline.save_pretrained(tmp_path / "base")
    config = save_configs(pipeline, tmp_path / "config")
    file = save_single_file(pipeline, tmp_path / "base.safetensors")
    folder, single = (
        opened(hashes, model=tmp_path / "base"),
        opened(hashes, model=file, config=config),
    )
    assert folder.found.structure == single.found.structure
    assert single.family.name == family
    assert single.pipeline.scheduler.config.prediction_type == prediction_type
    assert same(weights(folder.pipeline), weights(single.pipeline))
    sizes = torch.tensor([[16.0, 16, 0, 0, 16, 16]])
    told = [base.conditioning(["a red ring"], sizes) for base in (folder, single)]
    assert same(*told)


def test_half_precision_files_are_computed_in_fp32(hashes: Hashes, tmp_path: Path) -> None:
    pipeline = tiny_pipeline("sdxl")
    config = save_configs(pipeline, tmp_path / "config")
    file = save_single_file(pipeline, tmp_path / "half.safetensors", torch.float16)
    stored = weights(opened(hashes, model=file, config=config).pipeline)
    assert {value.dtype for value in stored.values() if value.is_floating_point()} == {
        torch.float32
    }
    exact = {f"unet.{n}": v.half().float() for n, v in pipeline.unet.state_dict().items()}
    assert same(exact, {name: stored[name] for name in exact})


def test_a_folder_of_the_fp16_variant_alone_is_read(hashes: Hashes, tmp_path: Path) -> None:
    pipeline = tiny_pipeline("sd1").to(torch.float16)
    pipeline.save_pretrained(tmp_path, variant="fp16")
    pipeline.to(torch.float32)
    stored = weights(opened(hashes, model=tmp_path).pipeline)
    assert torch.equal(stored["unet.conv_in.weight"], pipeline.unet.conv_in.weight)


@pytest.mark.parametrize("kept", ["DDIM", "PNDM"])
def test_marks_of_v_prediction_and_a_rescaled_schedule_are_read(
    kept: str, hashes: Hashes, tmp_path: Path
) -> None:
    """Whatever scheduler the configuration names: PNDM's cannot rescale a schedule."""
    pipeline = tiny_pipeline("sdxl")
    if kept == "PNDM":
        pipeline.scheduler = PNDMScheduler.from_config(pipeline.scheduler.config)
    config = save_configs(pipeline, tmp_path / "config")
    marks = {"v_pred": torch.empty(0), "ztsnr": torch.empty(0)}
    file = save_single_file(pipeline, tmp_path / "v.safetensors", extra=marks)
    base = opened(hashes, model=file, config=config)
    scheduler = base.pipeline.scheduler
    assert scheduler.config.prediction_type == "v_prediction"
    assert scheduler.config.rescale_betas_zero_snr
    assert float(scheduler.alphas_cumprod[-1]) == pytest.approx(0, abs=1e-6)


def test_sd2_must_be_told_what_it_predicts(hashes: Hashes, tmp_path: Path) -> None:
    pipeline = tiny_pipeline("sd2")
    config = save_configs(pipeline, tmp_path / "config")
    shutil.copy(
        FAMILIES["sd2"].configs / "scheduler" / "scheduler_config.json", config / "scheduler"
    )
    file = save_single_file(pipeline, tmp_path / "sd2.safetensors")
    with pytest.raises(UserError, match=r"its tensors do not tell; set base\.prediction_type"):
        opened(hashes, model=file, config=config)
    told = opened(hashes, model=file, config=config, prediction_type="v_prediction")
    assert told.pipeline.scheduler.config.prediction_type == "v_prediction"
    said = {"modelspec.prediction_type": "v"}
    file = save_single_file(pipeline, tmp_path / "said.safetensors", metadata=said)
    again = opened(hashes, model=file, config=config)
    assert again.pipeline.scheduler.config.prediction_type == "v_prediction"


def other_autoencoder() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return autoencoder()


def test_another_autoencoder_takes_the_place_of_the_bases_own(
    hashes: Hashes, tmp_path: Path
) -> None:
    pipeline = tiny_pipeline("sd1")
    config = save_configs(pipeline, tmp_path / "config")
    file = save_single_file(pipeline, tmp_path / "bare.safetensors", without="first_stage_model")
    with pytest.raises(UserError, match=r"holds no autoencoder; name one as base\.vae"):
        opened(hashes, model=file, config=config)
    other = other_autoencoder()
    other.save_pretrained(tmp_path / "vae")
    base = opened(hashes, model=file, config=config, vae=tmp_path / "vae")
    assert same(dict(base.vae.state_dict()), dict(other.state_dict()))
    pipeline.save_pretrained(tmp_path / "base")
    own = opened(hashes, model=tmp_path / "base")
    replaced = opened(hashes, model=tmp_path / "base", vae=tmp_path / "vae")
    assert same(dict(replaced.vae.state_dict()), dict(other.state_dict()))
    assert replaced.found.sha256 != own.found.sha256
    assert replaced.found.part_sha256("unet") == own.found.part_sha256("unet")
    assert replaced.found.part_sha256("vae") != own.found.part_sha256("vae")


@pytest.mark.parametrize(("form", "prefix"), [("folder", ""), ("file", "first_stage_model.")])
def test_an_autoencoder_in_a_file_is_read_with_the_bases_configuration(
    form: str, prefix: str, hashes: Hashes, tmp_path: Path
) -> None:
    pipeline, other = tiny_pipeline("sd1"), other_autoencoder()
    pipeline.save_pretrained(tmp_path / "base")
    params = {"model": str(tmp_path / "base"), "vae": str(tmp_path / "vae.safetensors")}
    save_vae(other, tmp_path / "vae.safetensors", prefix)
    if form == "file":
        file = tmp_path / "bare.safetensors"
        save_single_file(pipeline, file, without="first_stage_model")
        params |= {"model": str(file), "config": params["model"]}
    base = opened(hashes, **params)
    assert same(dict(base.vae.state_dict()), dict(other.state_dict()))
    told = tmp_path / "base" / "vae" / "config.json"
    told.write_text(json.dumps(json.loads(told.read_text()) | {"scaling_factor": 0.5}))
    again = look_at_base(BaseParams(**params), hashes)
    assert load_vae(where_is(again)).config.scaling_factor == 0.5
    assert again.part_sha256("vae") != base.found.part_sha256("vae")


LOOK = """
import sys
from pathlib import Path
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base import look_at_base
from lcm_lora.params.base import Base
with Hashes(Path(sys.argv[1])) as hashes:
    for config in sys.argv[3:]:
        print(look_at_base(Base(model=sys.argv[2], config=config), hashes).model_dump_json())
assert "torch" not in sys.modules
"""


def test_a_tokenizer_alone_is_no_other_base_from_process_to_process(tmp_path: Path) -> None:
    pipeline = tiny_pipeline("sdxl")
    file = save_single_file(pipeline, tmp_path / "base.safetensors")
    words, stray = tmp_path / "words", tmp_path / "stray"
    for folder in (words, stray):
        pipeline.tokenizer.save_pretrained(folder / "tokenizer")
    (stray / "unet").mkdir()
    (stray / "unet" / "config.json").write_text("{}")  # without model_index.json nobody reads it

    def look(seed: str) -> list[dict[str, Any]]:
        command = [sys.executable, "-c", LOOK, str(tmp_path / f"hashes-{seed}"), str(file)]
        done = subprocess.run(
            [*command, str(words), str(stray)],
            env=os.environ | {"PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    one, another = look("1"), look("2")
    assert one == another
    assert one[0]["files"] == one[1]["files"]
    assert one[0]["sha256"] == one[1]["sha256"]
    assert {"config/tokenizer/tokenizer.json", "config/unet/config.json"} <= one[0]["files"].keys()


def test_a_configuration_counts_as_far_as_it_is_read(hashes: Hashes, tmp_path: Path) -> None:
    pipeline = tiny_pipeline("sd1")
    config = save_configs(pipeline, tmp_path / "config")
    file = save_single_file(pipeline, tmp_path / "base.safetensors")
    params = BaseParams(model=str(file), config=str(config))
    before = look_at_base(params, hashes)
    for name in ("unet/x.index.json", "text_encoder_2/config.json", "tokenizer_2/vocab.json"):
        (config / name).parent.mkdir(exist_ok=True)
        (config / name).write_text("{}")
    assert look_at_base(params, hashes) == before
    (config / "text_encoder" / "config.json").unlink()
    with pytest.raises(UserError, match=r"text_encoder/config\.json: no such file"):
        look_at_base(params, hashes)


@pytest.mark.parametrize("marks", [("edm_mean", "edm_std"), ("edm_vpred.sigma_max",)])
def test_a_file_of_other_noise_is_refused_before_anything_loads(
    marks: tuple[str, ...], hashes: Hashes, tmp_path: Path
) -> None:
    file = tmp_path / "edm.safetensors"
    save_single_file(tiny_pipeline("sdxl"), file, extra={name: torch.ones(1) for name in marks})
    with pytest.raises(UserError, match=r"edm\.safetensors: is an EDM model, .*; name another"):
        look_at_base(BaseParams(model=str(file)), hashes)


def broken(tmp_path: Path, kind: str) -> Path:
    """Return a file that is no base, in one way."""
    path = tmp_path / f"{kind}.safetensors"
    pipeline = tiny_pipeline("sdxl" if kind in ("refiner", "headless") else "sd1")
    save_single_file(pipeline, path)
    tensors = load_file(path)
    match kind:
        case "cut":
            path.write_bytes(path.read_bytes()[:-100])
            return path
        case "pickle":
            path.write_bytes(b"PK\x03\x04" + bytes(200))
            return path
        case "adapter":
            tensors = {"lora_unet_mid.lora_up.weight": torch.zeros(1)}
        case "inpainting":
            first = "model.diffusion_model.input_blocks.0.0.weight"
            tensors[first] = torch.zeros(8, 9, 3, 3)
        case "refiner":
            second = "conditioner.embedders.1."
            tensors = {n.replace(second, "conditioner.embedders.0."): v for n, v in tensors.items()}
        case "headless":
            first = "conditioner.embedders.0."
            tensors = {n: v for n, v in tensors.items() if not n.startswith(first)}
        case "unet":
            tensors = {n: v for n, v in tensors.items() if not n.startswith("cond_stage_model")}
    save_file(tensors, path)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cut", r"has \d+ bytes where its header says \d+; fetch it again"),
        ("pickle", "no safetensors file"),
        ("adapter", "holds no denoiser of SD-1.x, SD-2.x, SDXL or SSD-1B"),
        ("refiner", "is the refiner of SDXL"),
        ("headless", "lacks the first of its two text encoders; name a whole file"),
        ("unet", "holds no text encoder"),
    ],
)
def test_what_is_no_base_is_refused_before_anything_loads(
    kind: str, message: str, hashes: Hashes, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as error:
        look_at_base(BaseParams(model=str(broken(tmp_path, kind))), hashes)
    assert "\n" not in str(error.value)


def test_an_inpainting_file_says_so_in_its_channels(hashes: Hashes, tmp_path: Path) -> None:
    config = save_configs(tiny_pipeline("sd1"), tmp_path / "config")
    file = broken(tmp_path, "inpainting")
    found = look_at_base(BaseParams(model=str(file), config=str(config)), hashes)
    assert (found.structure.unet_channels, found.structure.latent_channels) == (9, 4)


def test_without_a_vocabulary_a_single_file_is_one_line(
    hashes: Hashes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save_single_file(tiny_pipeline("sd1"), tmp_path / "base.safetensors")
    assert "config/merges" in look_at_base(BaseParams(model=str(file)), hashes).files
    monkeypatch.setattr("lcm_lora.families.vocabulary._PACKAGES", ())
    with pytest.raises(UserError, match=r"holds no tokenizer, and CLIP's is neither in the hub"):
        look_at_base(BaseParams(model=str(file)), hashes)


def test_the_vocabulary_of_a_package_is_clips() -> None:
    """Ids as OpenAI's and all published tokenizers give them."""
    words = clip_tokenizer(find_merges(), "!")
    assert len(words) == 49_408
    assert words("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    padded = words("a photo", padding="max_length", max_length=77).input_ids
    assert padded[4:] == [0] * 73
    assert len(merges_sha256(find_merges())) == 64
