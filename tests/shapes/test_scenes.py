"""Scenes: a pure function of seed and index, true to their captions, at any size."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcm_lora.shapes.scenes import COLOURS, GROUNDS, RADII, Figure, Scene, draw_scene, render


def test_scenes_are_a_function_of_seed_and_index() -> None:
    assert draw_scene(3, 7) == draw_scene(3, 7)
    assert draw_scene(3, 7) != draw_scene(3, 8)
    assert draw_scene(3, 7) != draw_scene(4, 7)
    alone = render([draw_scene(3, 7)], 32)[0]
    among = render([draw_scene(3, i) for i in range(12)], 32)[7]
    assert np.array_equal(alone, among)


@given(st.integers(0, 10_000), st.integers(0, 10_000))
@settings(max_examples=200)
def test_figures_keep_apart_and_inside(seed: int, index: int) -> None:
    scene = draw_scene(seed, index)
    assert 1 <= len(scene.figures) <= 3
    kinds = [(figure.shape, figure.colour) for figure in scene.figures]
    assert len(set(kinds)) == len(kinds)
    for i, a in enumerate(scene.figures):
        low, high = RADII[a.size]
        assert low <= a.radius <= high
        assert a.radius <= min(a.x, a.y, 1 - a.x, 1 - a.y)
        for b in scene.figures[:i]:
            assert math.hypot(a.x - b.x, a.y - b.y) > a.radius + b.radius


def test_a_caption_leaves_much_open() -> None:
    """Pictures of one caption differ in place, rotation and tint: the modes are far apart."""
    scenes = [draw_scene(0, i) for i in range(4000)]
    same = [s for s in scenes if len(s.figures) == 1 and s.figures[0].size == "large"]
    places = np.array([(s.figures[0].x, s.figures[0].y) for s in same])
    assert (places.std(0) > 0.12).all()
    assert np.std([s.figures[0].angle for s in same]) > 1.5


@pytest.mark.parametrize("pixels", [32, 64, 200])
@pytest.mark.parametrize("shape", ["circle", "square", "triangle", "ring", "cross"])
def test_a_shape_covers_its_area_at_any_size(shape: str, pixels: int) -> None:
    radius = 0.2
    figure = Figure(shape, "red", "large", 0.45, 0.55, radius, 0.4, (255.0, 255.0, 255.0))
    picture = render([Scene((figure,), "black", (0.0, 0.0, 0.0))], pixels)
    area = {
        "circle": math.pi * 0.95**2,
        "ring": math.pi * (0.97**2 - 0.47**2),
        "square": 1.4**2,
        "cross": 2 * (1.9 * 0.58) - 0.58**2,
        "triangle": 3 * math.sqrt(3) * 0.52**2,
    }[shape]
    covered = picture[0, :, :, 0].astype(float).mean() / 255
    assert covered == pytest.approx(area * radius**2, rel=0.03)


def test_edges_are_anti_aliased_and_the_ground_is_plain() -> None:
    scene = draw_scene(1, 1)
    picture = render([scene], 64)[0].reshape(-1, 3)
    ground = np.rint(scene.ground_rgb)
    assert (np.abs(picture - ground).max(1) == 0).mean() > 0.3
    assert len(np.unique(picture, axis=0)) > 2 + len(scene.figures)


def test_captions_read_well() -> None:
    def figure(size: str, colour: str, shape: str) -> Figure:
        return Figure(shape, colour, size, 0.5, 0.5, 0.1, 0.0, (0.0, 0.0, 0.0))

    two = (figure("small", "red", "ring"), figure("large", "blue", "square"))
    three = (*two, figure("small", "pink", "cross"))
    grey = (0.0, 0.0, 0.0)
    assert Scene(two[:1], "grey", grey).caption == "a small red ring on a grey background"
    assert (
        Scene(two, "navy", grey).caption
        == "a small red ring and a large blue square on a navy background"
    )
    assert (
        Scene(three, "navy", grey).caption
        == "a small red ring, a large blue square and a small pink cross on a navy background"
    )


def test_colours_are_far_apart() -> None:
    """Farther than two jitters, so that a colour's name is never a matter of opinion."""
    for palette in (COLOURS, GROUNDS):
        rgb = np.array(list(palette.values()), float)
        gaps = np.abs(rgb[:, None] - rgb[None]).max(2) + 1000 * np.eye(len(rgb))
        assert gaps.min() > 4 * 9
