"""Real photographs in pieces, and a tiny autoencoder, for the tests of the data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from making import make_data
from PIL import Image
from sklearn.datasets import load_sample_images
from tiny import TinyBase, make_tiny_base

from lcm_lora.params.sources import ShapesSource


@pytest.fixture(scope="session")
def photographs() -> list[Image.Image]:
    """Forty-eight different pieces, 80 x 60 pixels, of two photographs."""
    china, flower = (Image.fromarray(picture) for picture in load_sample_images().images)
    return [
        photograph.crop((x, y, x + 80, y + 60))
        for photograph in (china, flower)
        for x in range(0, 480, 80)
        for y in range(0, 240, 60)
    ]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared scenes, 16 x 16 pixels, in shards of eight. Read only."""
    source = ShapesSource(count=40, seed=3)
    sizes = {"resolution": 16, "min_side": 16, "shard_samples": 8}
    folder = tmp_path_factory.mktemp("prepared")
    return make_data(folder, source, held_out=0.4, selection=0.1, **sizes)


@pytest.fixture(scope="session")
def shards(data: Path) -> Path:
    """The training shards of `data`."""
    return data / "data" / "shards"


@pytest.fixture(scope="session")
def tiny_base() -> Callable[[], TinyBase]:
    """Return a function that makes a base of a kind, the same one every time."""
    return make_tiny_base
