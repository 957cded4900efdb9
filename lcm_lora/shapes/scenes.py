"""Draw captioned scenes of coloured shapes, deterministically and by the thousand.

A caption fixes what is in the scene (shapes, colours, sizes, ground) and leaves open how it looks
(positions, rotations, exact radii, a jitter of every colour). So the pictures of one caption form
many well-separated modes, which is what makes sampling them in few steps hard.

Legend: B scenes, H = W pixels a side. Lengths are in units of the picture's side.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PIXELS = 32
"""Pixels of a side at which every network of the shapes world sees it."""

SHAPES = ("circle", "square", "triangle", "ring", "cross")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (222, 40, 44),
    "orange": (250, 140, 20),
    "yellow": (248, 222, 40),
    "green": (36, 160, 62),
    "cyan": (60, 205, 225),
    "blue": (40, 90, 235),
    "pink": (245, 120, 195),
}
GROUNDS: dict[str, tuple[int, int, int]] = {
    "black": (12, 12, 14),
    "white": (246, 246, 246),
    "grey": (132, 132, 136),
    "navy": (18, 24, 88),
    "brown": (98, 62, 36),
}
RADII: dict[str, tuple[float, float]] = {"small": (0.125, 0.15), "large": (0.195, 0.225)}
"""Circumscribed radius of each size word, drawn uniformly."""

PAIRS = tuple((shape, colour) for shape in SHAPES for colour in COLOURS)
"""Every kind of figure a caption can name; a scene never holds one kind twice."""

_GAP = 0.03
_COLOUR_JITTER = 9.0


@dataclass(frozen=True, slots=True)
class Figure:
    """One shape of a scene; `x`, `y`, `radius` in picture sides, `angle` in radians."""

    shape: str
    colour: str
    size: str
    x: float
    y: float
    radius: float
    angle: float
    rgb: tuple[float, float, float]

    @property
    def words(self) -> str:
        """The figure as a caption names it."""
        return f"a {self.size} {self.colour} {self.shape}"


@dataclass(frozen=True, slots=True)
class Scene:
    """One to three figures, none touching another, on a plain ground."""

    figures: tuple[Figure, ...]
    ground: str
    ground_rgb: tuple[float, float, float]

    @property
    def caption(self) -> str:
        """What the scene holds, in words."""
        named = [figure.words for figure in self.figures]
        listed = " and ".join(filter(None, [", ".join(named[:-1]), named[-1]]))
        return f"{listed} on a {self.ground} background"


def draw_scene(seed: int, index: int) -> Scene:
    """Return scene `index` of the endless sequence that `seed` names."""
    rng = np.random.default_rng((seed, index))
    count = int(rng.choice((1, 2, 3), p=(0.50, 0.35, 0.15)))
    kinds = [PAIRS[i] for i in rng.choice(len(PAIRS), size=count, replace=False)]
    sizes = [str(size) for size in rng.choice(tuple(RADII), size=count)]
    ground = str(rng.choice(tuple(GROUNDS)))
    figures = tuple(
        Figure(
            shape=shape,
            colour=colour,
            size=size,
            x=x,
            y=y,
            radius=radius,
            angle=float(rng.uniform(0, 2 * math.pi)),
            rgb=_jittered(COLOURS[colour], rng),
        )
        for (shape, colour), size, (x, y, radius) in zip(
            kinds, sizes, _placed(sizes, rng), strict=True
        )
    )
    return Scene(figures, ground, _jittered(GROUNDS[ground], rng))


def draw_scenes(seed: int, indices: Iterable[int]) -> list[Scene]:
    """Return the scenes at `indices` of the sequence that `seed` names."""
    return [draw_scene(seed, index) for index in indices]


def render(scenes: Sequence[Scene], pixels: int) -> NDArray[np.uint8]:
    """Paint scenes with anti-aliased edges.

    Args:
        scenes: B scenes.
        pixels: H = W.

    Returns:
        uint8 [B, H, W, 3].
    """
    return colours(painted(plain(scenes, pixels), scenes))


def plain(scenes: Sequence[Scene], pixels: int) -> NDArray[np.float32]:
    """Return the scenes' grounds, float32 [B, H, W, 3] in 0..255."""
    canvas = np.empty((len(scenes), pixels, pixels, 3), np.float32)
    canvas[:] = np.array([scene.ground_rgb for scene in scenes], np.float32)[:, None, None, :]
    return canvas


def painted(canvas: NDArray[np.float32], scenes: Sequence[Scene]) -> NDArray[np.float32]:
    """Return the scenes' figures on float32 [B, H, W, 3], with anti-aliased edges."""
    after = canvas.copy()
    for owners, figures, covered in coverages(scenes, canvas.shape[1]):
        paint = np.array([figure.rgb for figure in figures], np.float32)[:, None, None, :]
        # Figures do not touch, so each one's change to what is below adds up in any order.
        np.add.at(after, owners, covered[..., None] * (paint - canvas[owners]))
    return after


def coverages(
    scenes: Sequence[Scene], pixels: int, grown: float = 0.0
) -> Iterator[tuple[list[int], list[Figure], NDArray[np.float32]]]:
    """Yield the figures of each shape: whose they are, and the share of each pixel they cover.

    Args:
        scenes: B scenes.
        pixels: H = W.
        grown: How much farther than their edges the figures reach.

    Yields:
        Owners, indices below B; their figures; float32 [len(figures), H, W] in 0..1.
    """
    for shape in SHAPES:
        owners, figures = [], []
        for i, scene in enumerate(scenes):
            for figure in scene.figures:
                if figure.shape == shape:
                    owners.append(i)
                    figures.append(figure)
        if figures:
            yield owners, figures, _coverage(shape, figures, pixels, grown)


def colours(canvas: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a canvas as whole colours, uint8 [B, H, W, 3]."""
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def _jittered(rgb: tuple[int, int, int], rng: np.random.Generator) -> tuple[float, float, float]:
    moves = rng.uniform(-_COLOUR_JITTER, _COLOUR_JITTER, 3).tolist()
    r, g, b = (min(max(part + by, 0.0), 255.0) for part, by in zip(rgb, moves, strict=True))
    return r, g, b


def _placed(sizes: Sequence[str], rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Draw (x, y, radius) for each size so that the circumscribed circles keep a gap."""
    count = len(sizes)
    while True:
        # Most draws are refused; on so few numbers plain Python is quicker than arrays.
        draws = rng.random(3 * count).tolist()
        radii = [_between(*RADII[size], draw) for size, draw in zip(sizes, draws, strict=False)]
        places = [
            (_between(r + 0.01, 0.99 - r, x), _between(r + 0.01, 0.99 - r, y), r)
            for r, x, y in zip(radii, draws[count::2], draws[count + 1 :: 2], strict=True)
        ]
        if all(_are_apart(one, other) for one, other in itertools.combinations(places, 2)):
            return places


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share


def _are_apart(one: tuple[float, float, float], other: tuple[float, float, float]) -> bool:
    distance = math.hypot(one[0] - other[0], one[1] - other[1])
    return distance >= one[2] + other[2] + _GAP


def _coverage(
    shape: str, figures: Sequence[Figure], pixels: int, grown: float
) -> NDArray[np.float32]:
    """Return the share of each pixel that each figure covers, [len(figures), H, W] in 0..1."""
    place = np.array([(f.x, f.y, f.radius, f.angle) for f in figures], np.float32)
    x, y, radius, angle = (column[:, None, None] for column in place.T)
    centres = (np.arange(pixels, dtype=np.float32) + 0.5) / pixels
    dx, dy = centres[None, None, :] - x, centres[None, :, None] - y
    u = (np.cos(angle) * dx + np.sin(angle) * dy) / radius
    v = (np.cos(angle) * dy - np.sin(angle) * dx) / radius
    # A distance of half a pixel either side of the edge fades from full to no coverage.
    distance = (_signed_distance(shape, u, v) * radius - grown) * pixels
    return np.asarray(np.clip(0.5 - distance, 0, 1), np.float32)


def _signed_distance(
    shape: str, u: NDArray[np.float32], v: NDArray[np.float32]
) -> NDArray[np.floating[Any]]:
    """Return the distance to the shape's edge, negative inside, for a circumscribed radius of 1."""
    match shape:
        case "circle":
            return np.hypot(u, v) - 0.95
        case "ring":
            return np.abs(np.hypot(u, v) - 0.72) - 0.25
        case "square":
            return _box(u, v, 0.70, 0.70)
        case "cross":
            return np.minimum(_box(u, v, 0.95, 0.29), _box(u, v, 0.29, 0.95))
        case "triangle":
            # Three half planes at distance 1/2 from the centre; exact on the edges.
            sides = [math.pi / 2 + k * 2 * math.pi / 3 for k in range(3)]
            return np.maximum.reduce([math.cos(a) * u + math.sin(a) * v for a in sides]) - 0.52
        case _:
            raise ValueError(f"no such shape: {shape}; known are {', '.join(SHAPES)}")


def _box(
    u: NDArray[np.float32], v: NDArray[np.float32], half_u: float, half_v: float
) -> NDArray[np.floating[Any]]:
    """Return the signed distance to an axis-aligned box about the origin."""
    a, b = np.abs(u) - half_u, np.abs(v) - half_v
    return np.hypot(np.maximum(a, 0), np.maximum(b, 0)) + np.minimum(np.maximum(a, b), 0)
