"""Who is asked for what; pictures are those of the stages, whoever painted before; the sheet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from demos import OTHER_STYLE, STYLE
from making import CPU
from PIL import Image

from lcm_lora.champion import write_champion
from lcm_lora.errors import UserError
from lcm_lora.files import sha256
from lcm_lora.hashes import Hashes
from lcm_lora.painting.paint import paint
from lcm_lora.painting.start import Start
from lcm_lora.painting.studio import Studio
from lcm_lora.painting.subject import Subject, Weighted
from lcm_lora.params.generate import Cell, Generate
from lcm_lora.showing.asked import Asked, asked_of, most_steps, subjects_of
from lcm_lora.showing.easel import Easel
from lcm_lora.showing.image import write_image
from lcm_lora.showing.options import Options
from lcm_lora.showing.order import Order, Weights
from lcm_lora.showing.sheet import sheet
from lcm_lora.showing.styles import style_name
from lcm_lora.stages.generate import PLACES

PROMPT = "a large blue cross on a white background"
ORDER = Order(PROMPT, 5)
Subjects = dict[str, Subject]


def cells(asked: tuple[Asked, ...]) -> list[tuple[str, int, float]]:
    return [(one.painter, one.cell.steps, one.cell.guidance) for one in asked]


def test_each_painter_has_its_own_guidance_and_the_teacher_its_own_steps(
    params: Generate, subjects: Subjects
) -> None:
    names = ("teacher", "adapter", "dpmpp", "adapter")
    asked = asked_of(names, (2, 4, 2), params, subjects)
    few = [("adapter", 2, 1.0), ("adapter", 4, 1.0), ("dpmpp", 2, 3.0), ("dpmpp", 4, 3.0)]
    assert cells(asked) == [("teacher", 50, 3.0), *few]
    guided = asked_of(names, (2,), params, subjects, guidance=1.5)
    assert cells(guided) == [("teacher", 50, 3.0), ("adapter", 2, 1.5), ("dpmpp", 2, 1.5)]


def test_all_start_from_the_same_noise(params: Generate, subjects: Subjects) -> None:
    teacher = params.painters["teacher"]
    others = teacher.model_copy(update={"cells": (Cell(steps=9, guidance=3, seeds=4),)})
    changed = params.model_copy(update={"painters": {"teacher": others}})
    asked = asked_of(("adapter", "teacher"), (1,), changed, subjects)
    assert {one.cell.seeds for one in asked} == {0}


def test_steps_end_where_the_grid_does(params: Generate, subjects: Subjects) -> None:
    assert most_steps(params.adapter, subjects["adapter"]) == 50
    short = replace(subjects["adapter"], lcm_config={"original_inference_steps": 20})
    asked_of(["adapter"], (20,), params, {"adapter": short})
    with pytest.raises(UserError, match="adapter: 21 steps cannot be taken; ask for 1 to 20"):
        asked_of(["adapter"], (4, 21), params, {"adapter": short})
    assert most_steps(params.painters["dpmpp"], subjects["dpmpp"]) == 1000
    with pytest.raises(UserError, match="adapter: 0 steps"):
        asked_of(["adapter"], (0,), params, subjects)


def test_who_is_not_there_is_said(
    there: Path, params: Generate, hashes: Hashes, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="rembrandt: not known here; choose one of adapter, cha"):
        subjects_of(["adapter", "rembrandt"], params, PLACES, hashes)
    nobody = replace(PLACES, champion=there / "nowhere")
    with pytest.raises(UserError, match="nowhere"):
        subjects_of(["champion"], params, nobody, hashes)
    write_champion(none := tmp_path / "none", None, None)
    with pytest.raises(UserError, match="champion: none to compare with; none was brought here"):
        subjects_of(["champion"], params, replace(PLACES, champion=none), hashes)


def test_pictures_are_those_of_the_stages_in_any_order(
    params: Generate, subjects: Subjects, easel: Easel
) -> None:
    assert easel.is_small
    asked = asked_of(("adapter", "champion", "dpmpp"), (1, 3), params, subjects)
    asked += (Asked("teacher", Cell(steps=2, guidance=3.0)),)
    forwards, backwards = (
        {one: easel.paint(one, ORDER) for one in order} for order in (asked, asked[::-1])
    )
    studios: dict[str, Studio] = {}
    for one in asked:
        np.testing.assert_array_equal(forwards[one], backwards[one])
        painter, subject = params.painter(one.painter), subjects[one.painter]
        base = studios.setdefault(subject.sha256, Studio(subject, CPU)).take(painter)
        (expected,) = paint(base, [PROMPT], one.cell, 32, 5, 0, painter.eta)
        np.testing.assert_array_equal(forwards[one], expected)
    assert len({picture.tobytes() for picture in forwards.values()}) == len(asked)


def test_what_is_given_up_before_it_begins_ends_after_a_step(
    params: Generate, subjects: Subjects, easel: Easel
) -> None:
    one, took = Asked("dpmpp", Cell(steps=9, guidance=1.0)), []
    unet = easel._studio(subjects["dpmpp"]).take(params.painter("dpmpp")).unet
    hook = unet.register_forward_pre_hook(lambda *_: took.append(1))
    whole = easel.paint(one, ORDER)
    assert len(took) == 9
    easel.paint(one, ORDER, lambda: True)
    assert len(took) == 9 + 1
    np.testing.assert_array_equal(easel.paint(one, ORDER), whole)
    hook.remove()


def worn(project: Path, *amounts: float) -> Weights:
    """Both styles by these amounts, and as much of the acceleration as the first says."""
    acceleration, *rest = amounts
    files = (project / STYLE, project / OTHER_STYLE)
    styles = (Weighted(file, sha256(file), l2) for file, l2 in zip(files, rest, strict=True))
    return Weights(acceleration, tuple(styles))


def test_weights_change_in_no_time_and_nothing_else_does(
    project: Path, params: Generate, subjects: Subjects, easel: Easel
) -> None:
    """Pictures depend on weights alone, whatever they were before, and no network loads again."""
    easel.load(worn(project, 1.0, 1.0, 1.0))
    loaded = {id(one.loaded.unet) for one in easel._shared.values()}
    mixes = [(1, 0, 0), (1, 0.5, 0), (0.5, 0, 0), (1, 0.5, 1), (0, 1, 0), (0, 0, 0)]
    asked = [Asked(name, Cell(steps=2, guidance=1.0)) for name in ("adapter", "dpmpp")]
    orders = [
        (one, Order(PROMPT, 5, weights=worn(project, *mix))) for one in asked for mix in mixes
    ]
    forwards, backwards = (
        {one: easel.paint(*one) for one in order} for order in (orders, orders[::-1])
    )
    for one, picture in forwards.items():
        np.testing.assert_array_equal(backwards[one], picture)
    assert loaded == {id(one.loaded.unet) for one in easel._shared.values()}
    pictures = [[forwards[one].tobytes() for one in orders if one[0] is who] for who in asked]
    assert len(set(pictures[0])) == len(mixes)
    # The solver has no acceleration: its weight changes nothing.
    assert len(set(pictures[1])) == 4
    for who in asked:
        plain, nothing = (Order(PROMPT, 5), Order(PROMPT, 5, weights=worn(project, 1, 0, 0)))
        np.testing.assert_array_equal(easel.paint(who, plain), easel.paint(who, nothing))


def test_one_large_base_wears_the_adapters_in_turn(
    params: Generate, subjects: Subjects, easel: Easel
) -> None:
    large = Easel(params, CPU, 32, subjects, small=0)
    large.load()
    assert not large.is_small
    for name in ("adapter", "teacher", "champion"):
        one = Asked(name, Cell(steps=2, guidance=1.0))
        difference = large.paint(one, ORDER).astype(int) - easel.paint(one, ORDER)
        assert np.abs(difference).max() <= 1, "the same but for rounding"
    assert not large._own


def test_a_sheet_holds_the_pictures_themselves() -> None:
    for side, scale in ((32, 6), (64, 3), (512, 1)):
        noise = np.random.default_rng(side).integers(0, 256, (3, side, side, 3), np.uint8)
        pictures = [Image.fromarray(pixels) for pixels in noise]
        asked = [
            Asked(name, Cell(steps=steps, guidance=1.0))
            for name, steps in (("adapter", 1), ("adapter", 4), ("teacher", 50))
        ]
        drawn = np.asarray(sheet("a long caption " * 20, asked, pictures))
        for pixels in noise:
            large = pixels.repeat(scale, 0).repeat(scale, 1)
            corners = np.argwhere((drawn == large[0, 0]).all(2))
            windows = [drawn[y : y + len(large), x : x + len(large)] for y, x in corners]
            assert any(np.array_equal(window, large) for window in windows)


def test_a_sheet_names_the_champions_version() -> None:
    pictures = [Image.new("RGB", (32, 32), "red")] * 2
    asked = [Asked(name, Cell(steps=1, guidance=1.0)) for name in ("adapter", "champion")]
    plain, *named = (
        np.asarray(sheet("a", asked, pictures, which))
        for which in ({}, {"champion": "version 7"}, {"champion": "version 8 " * 90})
    )
    assert all(drawn.shape == plain.shape for drawn in named)
    rows = [np.flatnonzero((drawn != plain).any((1, 2))) for drawn in named]
    # Only the champion's title, which is in the lower half.
    assert all(len(changed) < 32 and changed[0] > len(plain) // 2 for changed in rows)


def test_a_sheet_says_what_all_were_told_and_what_it_took() -> None:
    asked = [Asked("adapter", Cell(steps=steps, guidance=1.0)) for steps in (2, 4)]
    red = Image.new("RGB", (32, 32), "red")
    plain, told = (sheet("a", asked, [red] * 2, {}, None, words) for words in ("", "ink 0.8"))
    assert told.height > plain.height
    over = sheet("a", asked, [red] * 2, {}, Start(red, 0.5))
    rows = np.flatnonzero((np.asarray(plain) != np.asarray(over)).any((1, 2)))
    assert 0 < len(rows) < 32, "a line, of 1 and 2 evaluations in place of 2 and 4"


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("models:/lcm-lora-shapes-modules@style-ink", "ink"),
        ("models:/lcm-lora-shapes-modules/3", "lcm-lora-shapes-modules 3"),
        ("styles/ink.safetensors", "ink"),
        ("styles/ink/pytorch_lora_weights.safetensors", "ink"),
        ("styles/ink", "ink"),
        ("team/ink@v1", "ink"),
        ("shapes-ink", "shapes-ink"),
    ],
)
def test_a_style_is_called_as_people_would(name: str, called: str) -> None:
    assert style_name(name) == called


def options(*painters: str, steps: tuple[int, ...] = (4,)) -> Options:
    return Options(PROMPT, painters, steps, None, 3)


def test_one_picture_is_plain_and_several_are_a_sheet(there: Path, tmp_path: Path) -> None:
    write_image(options("adapter", steps=(1,)), PLACES.adapter, tmp_path / "one.png")
    assert Image.open(tmp_path / "one.png").size == (32, 32)
    both = options("adapter", "champion", steps=(1, 2))
    write_image(both, PLACES.adapter, tmp_path / "a.webp")
    assert min(Image.open(tmp_path / "a.webp").size) > 2 * 192
    write_image(options("adapter", steps=(1,)), there / "data/champion/adapter", tmp_path / "b.png")
    assert (tmp_path / "b.png").read_bytes() != (tmp_path / "one.png").read_bytes()


@pytest.mark.parametrize(
    ("asked", "out", "words"),
    [
        (options("adapter"), "a.gif", r"a.gif: cannot write .* name it .png"),
        (options("adapter"), "new/a.png", r"new/a.png: there is no folder .*new; make it"),
        (options("me"), "a.png", "me: not known here"),
        (options(), "a.png", "--subjects: nobody is named"),
        (options("adapter", steps=(99,)), "a.png", "ask for 1 to 50"),
        (options("adapter", "ddim", "dpmpp", steps=tuple(range(1, 40))), "a.png", "117 pictures"),
    ],
)
def test_what_cannot_be_painted_is_said_first(
    there: Path, tmp_path: Path, asked: Options, out: str, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        write_image(asked, PLACES.adapter, tmp_path / out)
    assert not (tmp_path / out).exists()
