"""What the tests of drift share."""

from __future__ import annotations

from pathlib import Path

import pytest
import scene_shards


@pytest.fixture
def save(tmp_path: Path) -> scene_shards.Save:
    """Return a function that writes samples as shards into a folder of a name."""
    return lambda name, samples: scene_shards.save(tmp_path / name, samples)
