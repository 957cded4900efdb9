"""Looks: pure like scenes, made of strokes and light, and no look at all where none is asked for."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from lcm_lora.shapes.looks import render_looks
from lcm_lora.shapes.restyle import COMBINATIONS
from lcm_lora.shapes.scenes import COLOURS, SHAPES, Figure, Scene, draw_scenes, plain, render

SCENES = draw_scenes(31, range(60))


def far_from_figures(scenes: list[Scene], pixels: int, reach: float) -> NDArray[np.bool_]:
    """Return which pixels are outside of every figure's circle by `reach`, [B, H, W]."""
    centres = (np.arange(pixels) + 0.5) / pixels
    far = np.ones((len(scenes), pixels, pixels), bool)
    for i, scene in enumerate(scenes):
        for f in scene.figures:
            distance = np.hypot(centres[None, :] - f.x, centres[:, None] - f.y)
            far[i] &= distance > 1.05 * f.radius + reach  # corners of a triangle stick out a little
    return far


def drawn(shape: str, angle: float, pixels: int = 128) -> dict[bool, NDArray[np.bool_]]:
    """Return where a large figure is, [H, W], by whether it is in ink."""
    figure = Figure(shape, "red", "large", 0.48, 0.53, 0.21, angle, (255.0, 255.0, 255.0))
    scene = Scene((figure,), "black", (0.0, 0.0, 0.0))
    return {
        ink: render_looks([scene], pixels, ("ink",) if ink else ())[0, :, :, 0] > 127
        for ink in (False, True)
    }


def test_no_look_is_the_plain_scene_to_the_byte() -> None:
    assert np.array_equal(render_looks(SCENES, 32, ()), render(SCENES, 32))


@pytest.mark.parametrize("looks", COMBINATIONS, ids=str)
def test_a_picture_is_a_function_of_its_scene_and_its_looks(looks) -> None:
    among = render_looks(SCENES, 32, looks)
    assert np.array_equal(render_looks(SCENES[7:8], 32, looks)[0], among[7])
    assert np.array_equal(render_looks(SCENES, 32, looks[::-1]), among)


def test_ink_touches_nothing_away_from_figures() -> None:
    before, after = render(SCENES, 32), render_looks(SCENES, 32, ("ink",))
    far = far_from_figures(SCENES, 32, 1 / 32)
    assert np.array_equal(before[far], after[far])
    changed = (before != after).any(3).any((1, 2))
    assert changed.all()


@pytest.mark.parametrize("angle", [0.0, 0.5, 2.1])
@pytest.mark.parametrize("shape", SHAPES)
def test_ink_draws_each_figure_in_two_strokes(shape: str, angle: float) -> None:
    figure = drawn(shape, angle)
    assert ndimage.label(figure[False])[1] == 1
    parts, count = ndimage.label(figure[True])
    assert count == 2
    sizes = ndimage.sum_labels(figure[True], parts, [1, 2])
    assert sizes.min() > 0.6 * sizes.max()
    assert not (figure[True] & ~figure[False]).any()
    assert 0.5 < sizes.sum() / figure[False].sum() < 0.95


def test_dusk_is_light_low_across_the_ground_and_nothing_else() -> None:
    before = render(SCENES, 32).astype(int)
    after = render_looks(SCENES, 32, ("dusk",)).astype(int)
    rows = np.flatnonzero((before != after).any((0, 2, 3)))
    assert 0.7 * 32 <= rows.min() <= rows.max() <= 0.9 * 32
    far = far_from_figures(SCENES, 32, 3 / 32)
    middle, inside = 25, slice(3, 29)
    lit = after[:, middle, inside][far[:, middle, inside]]
    assert np.abs(lit - COLOURS["orange"]).max() <= 1


def test_dusk_leaves_figures_as_they_are() -> None:
    """They stand before the light, and around them the ground shows."""
    before = render(SCENES, 32).astype(int)
    after = render_looks(SCENES, 32, ("dusk",)).astype(int)
    figure = (before != np.rint(plain(SCENES, 32))).any(3)
    # The outermost pixels of an edge are almost all ground, and take a glimmer of the light.
    assert np.abs(before - after)[figure].max() <= 10


def test_both_looks_are_one_upon_the_other() -> None:
    none, ink, dusk, both = (render_looks(SCENES, 32, looks) for looks in COMBINATIONS)
    in_ink = (none != ink).any(3)
    assert np.array_equal(both[~in_ink], dusk[~in_ink])
    at_dusk = (none != dusk).any(3)
    assert np.array_equal(both[~at_dusk], ink[~at_dusk])
