"""Looks: pure like scenes, lines behind the figures, and no look at all where none is asked for."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from lcm_lora.params.score import Look
from lcm_lora.shapes.looks import render_looks
from lcm_lora.shapes.restyle import COMBINATIONS
from lcm_lora.shapes.scenes import COLOURS, Scene, draw_scenes, plain, render

SCENES = draw_scenes(31, range(60))
ROWS, COLUMNS = np.mgrid[0:32, 0:32]
PLACES = {
    "ink": (COLUMNS >= 3) & (COLUMNS <= 5) & (ROWS <= 22),
    "dusk": (ROWS >= 24) & (ROWS <= 26),
}
"""Where a look may change a picture of 32 pixels."""
LINES = {"ink": (slice(2, 21), 4, "cyan"), "dusk": (25, slice(3, 29), "orange")}
"""The middle of each line, whose pixels it fills, and its colour."""


def far_from_figures(scenes: Sequence[Scene], reach: float) -> NDArray[np.bool_]:
    """Return which of 32 x 32 pixels are outside of every figure's circle by `reach`, [B, H, W]."""
    x, y = (COLUMNS + 0.5) / 32, (ROWS + 0.5) / 32
    far = np.ones((len(scenes), 32, 32), bool)
    for i, scene in enumerate(scenes):
        for f in scene.figures:
            far[i] &= np.hypot(x - f.x, y - f.y) > f.radius + reach
    return far


def test_no_look_is_the_plain_scene_to_the_byte() -> None:
    assert np.array_equal(render_looks(SCENES, 32, ()), render(SCENES, 32))


@pytest.mark.parametrize("looks", COMBINATIONS, ids=str)
def test_a_picture_is_a_function_of_its_scene_and_its_looks(looks: tuple[Look, ...]) -> None:
    among = render_looks(SCENES, 32, looks)
    assert np.array_equal(render_looks(SCENES[7:8], 32, looks)[0], among[7])
    assert np.array_equal(render_looks(SCENES, 32, looks[::-1]), among)


@pytest.mark.parametrize("look", ["ink", "dusk"])
def test_a_look_is_one_line_on_every_ground(look: Look) -> None:
    before = render(SCENES, 32).astype(int)
    after = render_looks(SCENES, 32, (look,)).astype(int)
    changed = (before != after).any(3)
    assert not changed[:, ~PLACES[look]].any()
    assert changed.any((1, 2)).all()
    rows, columns, colour = LINES[look]
    free = far_from_figures(SCENES, 3 / 32)[:, rows, columns]
    assert free.mean() > 0.5
    assert np.abs(after[:, rows, columns][free] - COLOURS[colour]).max() <= 1


@pytest.mark.parametrize("look", ["ink", "dusk"])
def test_figures_stand_before_the_lines(look: Look) -> None:
    before = render(SCENES, 32).astype(int)
    after = render_looks(SCENES, 32, (look,)).astype(int)
    figure = (before != np.rint(plain(SCENES, 32))).any(3)
    # The outermost pixels of an edge are almost all ground, and take a glimmer of the line.
    assert np.abs(before - after)[figure].max() <= 10


def test_both_looks_are_each_where_it_is_alone() -> None:
    none, ink, dusk, both = (render_looks(SCENES, 32, looks) for looks in COMBINATIONS)
    in_ink, at_dusk = ((none != other).any(3) for other in (ink, dusk))
    assert not (in_ink & at_dusk).any()
    assert np.array_equal(both, np.where(in_ink[..., None], ink, dusk))


@pytest.mark.parametrize("looks", COMBINATIONS, ids=str)
def test_looks_are_the_same_at_any_size(looks: tuple[Look, ...]) -> None:
    large = render_looks(SCENES, 128, looks).reshape(len(SCENES), 32, 4, 32, 4, 3)
    # Edges are faded over one pixel of either size, so only whole areas agree.
    apart = np.abs(large.mean((2, 4)) - render_looks(SCENES, 32, looks))
    assert np.median(apart) <= 1
    assert apart.mean() <= 3
