"""What painters name of their own is looked at first: what is there, whole, and fits."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from making import shapes_inventory
from recipes import recipe_of

from lcm_lora.adapter_files import KOHYA, RECIPE, WEIGHTS
from lcm_lora.champion import write_champion
from lcm_lora.champion_record import Champion
from lcm_lora.combining.opened import adapter_files
from lcm_lora.errors import UserError
from lcm_lora.families.family import FAMILIES
from lcm_lora.files import sha256, write_tensors
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.painters import PainterInventory, look_at_painters
from lcm_lora.painting.subject import Places, subject_of
from lcm_lora.params.generate import Generate
from lcm_lora.records import write_record
from lcm_lora.shapes import places

WIDTH = 128
"""Of the shapes base's captions."""
_BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0.attn2"
_FLAT = _BLOCK.replace(".", "_")
KEYS = {
    "PEFT": f"unet.{_BLOCK}.to_k.lora_A.weight",
    "diffusers of old": f"unet.{_BLOCK}.processor.to_k_lora.down.weight",
    "diffusers between": f"unet.{_BLOCK}.to_k.lora.down.weight",
    "kohya": f"lora_unet_{_FLAT}_to_k.lora_down.weight",
}
"""The half of a cross-attention key that takes captions, as each tool names it."""
CELLS = [{"steps": 4, "guidance": 1.0}]


def generate(**painter: Any) -> Generate:
    """Return parameters with a painter, `style`, beside the teacher."""
    teacher = {"sampler": "ddim", "cells": CELLS}
    style = {"sampler": "lcm", "cells": CELLS} | painter
    return Generate.model_validate(
        {"adapter": teacher, "painters": {"teacher": teacher, "style": style}}
    )


def lora(path: Path, name: str = KEYS["PEFT"], width: int = WIDTH) -> Path:
    path.parent.mkdir(exist_ok=True)
    write_tensors(path, {name: torch.zeros(2, width)})
    return path


def look(hashes: Hashes, **painter: Any) -> PainterInventory:
    return look_at_painters(generate(**painter), shapes_inventory(), hashes)["style"]


def with_adapters(*files: Path | str) -> dict[str, Any]:
    return {"adapters": {str(file): 0.5 for file in files}}


def refused(hashes: Hashes, message: str, **painter: Any) -> None:
    with pytest.raises(UserError, match=rf"^generate painter style: {message}") as error:
        look(hashes, **painter)
    assert "\n" not in str(error.value)


def test_an_adapter_is_its_weights_wherever_they_lie(tmp_path: Path, hashes: Hashes) -> None:
    file = lora(tmp_path / "a" / "style.safetensors")
    (tmp_path / "b").mkdir()
    shutil.copy(file, tmp_path / "b" / WEIGHTS)
    lora(tmp_path / "b" / "other.safetensors", KEYS["kohya"])  # beside the usual name
    found = look(hashes, **with_adapters(file, tmp_path / "a", tmp_path / "b"))
    assert found.base is None
    assert [adapter.name for adapter in found.adapters] == [
        str(file),
        str(tmp_path / "a"),
        str(tmp_path / "b"),
    ]
    assert {adapter.sha256 for adapter in found.adapters} == {hashes.sha256(file)}
    assert {(adapter.weight, adapter.commit) for adapter in found.adapters} == {(0.5, None)}


@pytest.mark.parametrize("name", KEYS.values(), ids=KEYS)
def test_an_adapter_for_captions_of_another_width_is_refused(
    name: str, tmp_path: Path, hashes: Hashes
) -> None:
    look(hashes, **with_adapters(lora(tmp_path / "fits.safetensors", name)))
    wrong = lora(tmp_path / "wrong.safetensors", name, 768)
    says = rf"{re.escape(str(wrong))}: takes captions 768 wide, shapes tells them 128 wide; name an"
    refused(hashes, says, **with_adapters(wrong))


def test_other_layers_say_nothing_of_the_width(tmp_path: Path, hashes: Hashes) -> None:
    """Self-attention, queries, and the half of a key that comes out are as wide as the picture."""
    for number, name in enumerate(
        (
            KEYS["PEFT"].replace("attn2", "attn1"),
            KEYS["PEFT"].replace("to_k", "to_q"),
            KEYS["PEFT"].replace("lora_A", "lora_B"),
            KEYS["kohya"].replace("lora_down", "lora_up"),
            "lora_te_text_model_encoder_layers_0_self_attn_k_proj.lora_down.weight",
        )
    ):
        look(hashes, **with_adapters(lora(tmp_path / f"{number}.safetensors", name, 320)))


def with_recipe(folder: Path, **trained: Any) -> Path:
    """Write an adapter of this project that was trained over a noise of its own."""
    lora(folder / WEIGHTS)
    shutil.copy(folder / WEIGHTS, folder / KOHYA)
    scheduler = {"class": "LCMScheduler", "config": trained}
    recipe = recipe_of(sha256(folder / WEIGHTS), scheduler=scheduler)
    (folder / RECIPE).write_text(json.dumps(recipe))
    return folder


@pytest.mark.parametrize(
    ("setting", "value", "own"),
    [
        ("prediction_type", "v_prediction", "epsilon"),
        ("rescale_betas_zero_snr", True, False),
        ("num_train_timesteps", 500, 1000),
    ],
)
def test_an_adapter_that_was_trained_over_another_noise_is_refused(
    setting: str, value: Any, own: Any, tmp_path: Path, hashes: Hashes
) -> None:
    look(hashes, **with_adapters(with_recipe(tmp_path / "own", **{setting: own})))
    other = with_recipe(tmp_path / "other", **{setting: value})
    says = rf"{other}: was trained where {setting} is {value}, of shapes it is {own}; name another"
    refused(hashes, says, **with_adapters(other))
    tuned = shutil.copytree(places.BASE, tmp_path / "tuned")
    config = tuned / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {setting: value}))
    look(hashes, base=str(tuned), **with_adapters(other))


def test_a_champion_that_was_trained_over_another_noise_paints_nothing(
    tmp_path: Path, hashes: Hashes
) -> None:
    write_record(tmp_path / "inventory" / "base.json", shapes_inventory())
    where = Places(tmp_path / "inventory", tmp_path / "adapter", tmp_path / "champion")
    for value in ("epsilon", "v_prediction"):
        made = with_recipe(tmp_path / value, prediction_type=value)
        champion = Champion(version="shapes version 3", weights_sha256=sha256(made / WEIGHTS))
        write_champion(where.champion, champion, made)
        if value == "epsilon":
            assert subject_of("champion", generate(), where, hashes) is not None
    says = r"^registry\.name: shapes version 3: was trained where prediction_type is v_pred"
    with pytest.raises(UserError, match=says) as error:
        subject_of("champion", generate(), where, hashes)
    assert "\n" not in str(error.value)


def test_an_adapter_that_is_none_is_refused(tmp_path: Path, hashes: Hashes) -> None:
    gone = tmp_path / "gone.safetensors"
    refused(hashes, rf"{gone}: no such adapter; name one that is", **with_adapters(gone))
    refused(hashes, "/gone: no such adapter; name one", **with_adapters("/gone"))
    for kind in ("pt", "bin", "ckpt", "PT", "pkl"):
        refused(
            hashes, rf"style\.{kind}: pickled weights are refused", **with_adapters(f"style.{kind}")
        )
    plain = lora(tmp_path / "unet.safetensors", "unet.conv_in.weight")
    refused(hashes, rf"{plain}: holds tensors that are of no LoRA for a", **with_adapters(plain))
    folder = lora(tmp_path / "two" / "a.safetensors").parent
    lora(folder / "b.safetensors")
    refused(
        hashes,
        rf"{folder}: holds 2 safetensors files and no {WEIGHTS}; name the file$",
        **with_adapters(folder),
    )
    (tmp_path / "none").mkdir()
    refused(hashes, ".*/none: holds 0 safetensors files", **with_adapters(tmp_path / "none"))
    cut = lora(tmp_path / "cut.safetensors")
    cut.write_bytes(cut.read_bytes()[:-4])
    refused(hashes, rf"{cut}: has .* header says .*name another adapter$", **with_adapters(cut))


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ("dora_scale", "DoRA"),
        ("lora_magnitude_vector.weight", "DoRA"),
        ("hada_w1_a", "LoHa"),
        ("lokr_w1", "LoKr"),
        ("diff_b", "a change of whole weights or biases"),
    ],
)
def test_what_is_more_than_a_lora_is_refused_by_its_kind(
    part: str, kind: str, tmp_path: Path, hashes: Hashes
) -> None:
    """By names alone, before anything loads, even where there are factors of a LoRA beside."""
    file = tmp_path / "style.safetensors"
    other = f"lora_unet_{_FLAT}_to_k.{part}"
    write_tensors(file, {name: torch.zeros(2, WIDTH) for name in (KEYS["kohya"], other)})
    says = rf"{file}: holds {kind}, which no sum of LoRAs can hold \({other}\); leave it out"
    refused(hashes, says, **with_adapters(file))


@pytest.mark.parametrize("name", ["inky", "./ink", "../styles/ink", "my style", "~/ink", "a/b/c"])
def test_a_name_that_can_be_no_hub_id_is_not_asked_for(name: str, hashes: Hashes) -> None:
    says = rf"^generate painter style {re.escape(name)}: neither a file, .*, which would be OWNER/"
    with pytest.raises(UserError, match=says):
        look(hashes, **with_adapters(name))


def test_of_a_folder_the_file_is_taken_that_combining_takes(tmp_path: Path, hashes: Hashes) -> None:
    """Unless it is PEFT's: what that adds stands in a second file, which no hash of it tells."""
    for number, names in enumerate((["only"], [WEIGHTS.removesuffix(".safetensors"), "another"])):
        folder = tmp_path / f"{number}"
        for rank, name in enumerate(names):
            lora(folder / f"{name}.safetensors", list(KEYS.values())[rank])
        (file,) = adapter_files(folder)
        (found,) = look(hashes, **with_adapters(folder)).adapters
        assert found.sha256 == hashes.sha256(file)
    folder = lora(tmp_path / "peft" / "adapter_model.safetensors").parent
    (folder / "adapter_config.json").write_text("{}")
    for named in (folder, folder / "adapter_model.safetensors"):
        says = rf"{named}: is PEFT's, .*; make one file of it by `lcm-lora combine`$"
        refused(hashes, says, **with_adapters(named))


def test_a_hub_id_that_cannot_be_reached_is_a_line(
    hashes: Hashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"^generate painter style nobody/style at v1: not in the"):
        look(hashes, **with_adapters("nobody/style@v1"))


def test_a_hub_id_is_a_commit_of_the_local_cache(
    tmp_path: Path,
    hashes: Hashes,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    commit, repository = "1" * 40, tmp_path / "hub" / "models--team--style"
    for folder in ("snapshots", "refs"):
        (repository / folder).mkdir(parents=True)
    lora(repository / "snapshots" / commit / WEIGHTS)
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    (found,) = look(hashes, **with_adapters("team/style")).adapters
    assert (found.name, found.commit) == ("team/style", commit)
    said = capsys.readouterr().err
    assert said == f"generate painter style: offline; team/style as cached, commit {commit}\n"


def test_a_base_of_its_own_is_looked_at_as_the_base_is(tmp_path: Path, hashes: Hashes) -> None:
    folder = tmp_path / "fine-tune"
    shutil.copytree(places.BASE, folder)
    found = look(hashes, base=str(folder)).base
    assert found is not None
    assert found.sha256 == shapes_inventory().sha256  # the same files elsewhere
    refused(hashes, "base gone.safetensors: no such file or folder", base="gone.safetensors")
    refused(hashes, "base style.ckpt: pickled weights are refused", base="style.ckpt")
    config = folder / "unet" / "config.json"
    painting = json.loads(config.read_text())
    config.write_text(json.dumps(painting | {"in_channels": 17}))
    refused(
        hashes,
        rf"the denoiser of {folder} takes 17 channels, that of base\.model 8; take a base that",
        base=str(folder),
    )


def test_a_base_of_another_family_is_refused(hashes: Hashes) -> None:
    known = shapes_inventory()
    xl = known.structure.model_copy(update={"family": "sdxl"})
    says = r"^generate painter style: shapes is of .*, base\.model of sdxl; take a fine-tune of the"
    with pytest.raises(UserError, match=says):
        look_at_painters(
            generate(base="shapes"), known.model_copy(update={"structure": xl}), hashes
        )


def test_the_published_widths_are_told_apart() -> None:
    widths = {
        name: json.loads((family.configs / "unet" / "config.json").read_text())
        for name, family in FAMILIES.items()
    }
    found = {name: config["cross_attention_dim"] for name, config in widths.items()}
    assert found == {"sd1": 768, "sd2": 1024, "sdxl": 2048, "ssd1b": 2048}


def test_what_changed_since_the_look_paints_nothing(tmp_path: Path, hashes: Hashes) -> None:
    file = lora(tmp_path / "style.safetensors")
    base = Path(shutil.copytree(places.BASE, tmp_path / "fine-tune"))
    params = generate(base=str(base), **with_adapters(file))
    seen = look_at_painters(params, shapes_inventory(), hashes)
    inventory = tmp_path / "inventory"
    write_record(inventory / "base.json", shapes_inventory())
    write_record(inventory / "painters" / "style.json", seen["style"])
    where = Places(inventory, tmp_path / "adapter", tmp_path / "champion")

    def subject() -> Any:
        return subject_of("style", params, where, hashes)

    before = subject()
    assert before.base == seen["style"].base
    assert [(w.file, w.weight) for w in before.adapters] == [(file, 0.5)]
    write_tensors(file, {KEYS["PEFT"]: torch.ones(2, WIDTH)})
    with pytest.raises(UserError, match="changed since the first look; run `lcm-lora inventory`"):
        subject()
    file.unlink()
    with pytest.raises(UserError, match="is gone from where it was; run `lcm-lora inventory`"):
        subject()
    lora(file)
    assert subject().sha256 == before.sha256
    (base / "scheduler" / "scheduler_config.json").write_text("{}")
    with pytest.raises(UserError, match=r"fine-tune: changed since the first look; run `lcm-lora"):
        subject()


def test_looking_at_painters_imports_no_torch() -> None:
    program = (
        "import sys, lcm_lora.inventory.painters, lcm_lora.champion, lcm_lora.stages.generate\n"
        "assert 'torch' not in sys.modules and 'diffusers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
