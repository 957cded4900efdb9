"""What the package ships of looks: a style, a fine-tune, and a judge that tells them apart."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from lcm_lora import layout
from lcm_lora.errors import UserError
from lcm_lora.files import sha256
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base import check_base_stands, look_at_base
from lcm_lora.inventory.base_files import find_model, where_is
from lcm_lora.params.base import Base
from lcm_lora.shapes import places, recipe, restyle, teacher
from lcm_lora.shapes.finetune import assembled
from lcm_lora.shapes.judge import Attributes
from lcm_lora.shapes.looks_judge import LooksJudge, load_looks_judge
from lcm_lora.shapes.scenes import draw_scenes

HELD_OUT = 515_151
"""A seed that no training and no preset uses."""
SCENES = draw_scenes(HELD_OUT, range(400))
UNET = Path("unet") / "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def judge() -> LooksJudge:
    return load_looks_judge(places.LOOKS)


@pytest.fixture(scope="module")
def dusk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return assembled("shapes-dusk", tmp_path_factory.mktemp("project"))


def seen(pictures: Tensor, judge: LooksJudge) -> dict[str, Tensor]:
    """Return float [N]: is the content right, and are the looks, where all take turns."""
    found, truth = judge.read(pictures), Attributes.of(SCENES[: len(pictures)])
    looks = torch.zeros(len(pictures), dtype=torch.bool)
    every = len(restyle.COMBINATIONS)
    for i, combination in enumerate(restyle.COMBINATIONS):
        looks[i::every] = found.has_exactly(combination)[i::every]
    return {"content": truth.agree(found.attributes).float(), "looks": looks.float()}


def test_style_and_fine_tune_are_small() -> None:
    tuned = places.FINE_TUNES["shapes-dusk"]
    assert places.INK.stat().st_size + tuned.stat().st_size < 6e6
    assert places.LOOKS.stat().st_size < 1.2e6
    assert {value.dtype for value in load_file(tuned).values()} == {torch.float16}


def test_the_judge_knows_content_and_looks_of_held_out_scenes(judge: LooksJudge) -> None:
    pictures, _ = restyle.looked_scenes(SCENES)
    right = seen(recipe.scale(pictures), judge)
    assert right["content"].mean() >= 0.97
    assert right["looks"].mean() >= 0.98


def test_the_looks_survive_the_autoencoder(judge: LooksJudge) -> None:
    vae = AutoencoderKL.from_pretrained(str(places.BASE / "vae"), torch_dtype=torch.float32)
    pictures, _ = restyle.looked_scenes(SCENES)
    right = seen(recipe.scale(restyle.round_trip(vae, pictures)), judge)
    assert right["content"].mean() >= 0.95
    assert right["looks"].mean() >= 0.96


@pytest.mark.parametrize("wrong", [(), ("ink",), ("dusk",), ("ink", "dusk")], ids=str)
def test_the_judge_takes_no_other_looks(wrong, judge: LooksJudge) -> None:
    pictures, _ = restyle.looked_scenes(SCENES)
    found = judge.read(recipe.scale(pictures)).has_exactly(wrong)
    others = [i for i in range(len(SCENES)) if restyle.COMBINATIONS[i % 4] != wrong]
    assert found[others].float().mean() <= 0.02


def painted(base: Path, style: float, count: int = 16, steps: int = 12) -> Tensor:
    """Return guided pictures of the first captions in few steps, float [N, 3, H, W] in -1..1."""
    pipe = StableDiffusionPipeline.from_pretrained(
        str(base), safety_checker=None, dtype=torch.float32
    )
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(
        pipe.scheduler.config, timestep_spacing="trailing", clip_sample=False
    )
    if style:
        pipe.load_lora_weights(str(places.INK), adapter_name="ink")
        pipe.set_adapters("ink", style)
    images = pipe(
        [scene.caption for scene in SCENES[:count]],
        num_inference_steps=steps,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(0),
        output_type="pt",
    ).images
    return images.mul(255).round() / 127.5 - 1


@pytest.mark.parametrize(
    ("tuned", "style", "looks"),
    [(False, 1.0, ("ink",)), (True, 0.0, ("dusk",)), (True, 1.0, ("ink", "dusk"))],
    ids=["style", "fine-tune", "both"],
)
def test_pictures_have_the_looks_of_what_paints_them(
    tuned: bool, style: float, looks: tuple, judge: LooksJudge, dusk: Path
) -> None:
    found = judge.read(painted(dusk if tuned else places.BASE, style))
    assert found.has_exactly(looks).float().mean() >= 0.75
    content = Attributes.of(SCENES[: len(found.looks)]).agree(found.attributes)
    assert content.float().mean() >= 0.6


def test_the_fine_tune_is_the_base_outside_of_what_was_trained(dusk: Path) -> None:
    base, tuned = load_file(places.BASE / UNET), load_file(places.FINE_TUNES["shapes-dusk"])
    whole = UNet2DConditionModel.from_pretrained(str(dusk / "unet")).state_dict()
    assert whole.keys() == base.keys() > tuned.keys()
    assert all(restyle.FINE_TUNED.search(name) for name in tuned)
    for name, value in whole.items():
        assert torch.equal(value, tuned.get(name, base[name]).to(value.dtype))
        assert (name in tuned) != torch.equal(value, base[name].to(value.dtype))
    for file in places.BASE.rglob("*"):
        if file.is_file() and file.name != UNET.name:
            assert sha256(dusk / file.relative_to(places.BASE)) == sha256(file)


def test_a_fine_tune_is_put_together_once_and_mended_where_it_is_not_whole(tmp_path: Path) -> None:
    folder = assembled("shapes-dusk", tmp_path)
    before, inode = sha256(folder), folder.stat().st_ino
    assert assembled("shapes-dusk", tmp_path).stat().st_ino == inode
    (folder / UNET).unlink()
    assert sha256(assembled("shapes-dusk", tmp_path)) == before
    (folder / "vae" / "config.json").unlink()
    assert sha256(assembled("shapes-dusk", tmp_path)) == before


def test_an_unknown_fine_tune_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^shapes-dawn: not known here; choose one of shapes-dusk$"
    ):
        assembled("shapes-dawn", tmp_path)


def test_parameters_may_name_the_fine_tune_as_their_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^base.vae shapes-dusk") as error:
        find_model("base.vae", "shapes-dusk", None)
    assert "\n" not in str(error.value)
    found = look_at_base(Base(model="shapes-dusk"), Hashes(tmp_path / "hashes.sqlite"))
    plain = look_at_base(Base(model="shapes"), Hashes(tmp_path / "hashes.sqlite"))
    differing = {name for name, digest in found.files.items() if plain.files[name] != digest}
    assert differing == {str(UNET)}
    shutil.rmtree(tmp_path / ".checkpoints")
    check_base_stands(found, Hashes(tmp_path / "hashes.sqlite"))
    assert where_is(found).model == layout.CHECKPOINTS / "shapes-dusk"


def test_the_style_says_what_it_is() -> None:
    with safe_open(places.INK, "pt") as file:
        header = file.metadata()
    assert header["ss_base_model_version"] == "sd_v1"
    assert json.loads(header["ss_network_args"])["conv_dim"] == header["ss_network_dim"] == "8"


def test_the_recipe_of_the_looks_runs(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teacher, "JUDGE_POOL", 64)
        patch.setattr(teacher, "LOOK_POOL", 64)
        teacher.make_looks(tmp_path, effort=0.001)
    load_looks_judge(tmp_path / "judges" / "looks.safetensors")
    shipped = [places.INK, *places.FINE_TUNES.values()]
    for file, made in zip(shipped, ("styles/ink", "finetunes/dusk"), strict=True):
        ours, theirs = (load_file(f) for f in (tmp_path / f"{made}.safetensors", file))
        assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
