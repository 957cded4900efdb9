"""A LoRA fits the bases whose modules it names, each in its shape, and no others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from loras import random_lora, shapes_in
from serving import looked_at
from styles import write_style
from tiny_bases import tiny_pipeline

from lcm_lora.combining.delta import Lora, Module
from lcm_lora.combining.fits import check_fits
from lcm_lora.combining.read import read_lora
from lcm_lora.errors import UserError
from lcm_lora.families.family import FamilyName
from lcm_lora.families.found import BaseInventory
from lcm_lora.params.base import Base

FAMILIES: tuple[FamilyName, ...] = ("sd1", "sdxl", "ssd1b")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BaseInventory]:
    folder = tmp_path_factory.mktemp("bases")
    for family in FAMILIES:
        tiny_pipeline(family).save_pretrained(folder / family)
    return {family: looked_at(folder, Base(model=str(folder / family))) for family in FAMILIES}


@pytest.fixture(scope="module")
def loras(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Lora]:
    """One for each family, of its denoiser and its text encoder."""
    folder = tmp_path_factory.mktemp("loras")
    files = {f: write_style(folder / f"{f}.safetensors", f, seed=1, texts=True) for f in FAMILIES}
    return {family: read_lora(file) for family, file in files.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_it_fits_its_own_family_alone(
    family: str, bases: dict[str, BaseInventory], loras: dict[str, Lora]
) -> None:
    check_fits("it", loras[family], bases[family])
    for other in set(FAMILIES) - {family}:
        with pytest.raises(UserError, match=r"^it: does not fit .*, which has no such unet\..*"):
            check_fits("it", loras[family], bases[other])


def test_shapes_and_names_count(bases: dict[str, BaseInventory], loras: dict[str, Lora]) -> None:
    lora = dict(loras["sd1"])
    module, factor = next(iter(lora.items()))
    wider = replace(factor, down=factor.down.repeat(1, 2))
    elsewhere = Module("text_encoder_2", module.name)
    for odd in (lora | {module: wider}, lora | {elsewhere: factor}):
        with pytest.raises(UserError, match="has no such "):
            check_fits("it", odd, bases["sd1"])


def test_all_modules_of_both_text_encoders_have_a_place(bases: dict[str, BaseInventory]) -> None:
    shapes = {m: s for m, s in shapes_in(tiny_pipeline("sdxl")).items() if m.component != "unet"}
    assert Module("text_encoder_2", "text_projection") in shapes
    check_fits("it", random_lora(1, shapes), bases["sdxl"])


def test_a_convolution_of_one_pixel_may_be_written_as_a_matrix(
    bases: dict[str, BaseInventory], tmp_path: Path
) -> None:
    lora = dict(read_lora(write_style(tmp_path / "sd1.safetensors", "sd1", seed=1)))
    module, factor = next(iter(lora.items()))
    across = Module("unet", module.name.partition(".transformer_blocks")[0] + ".proj_in")
    wide = factor.up.shape[0]
    matrix = replace(factor, down=factor.down[:, :wide])
    pixel = replace(matrix, down=matrix.down[..., None, None], up=matrix.up[..., None, None])
    for way in (matrix, pixel):
        check_fits("it", {across: way}, bases["sd1"])
