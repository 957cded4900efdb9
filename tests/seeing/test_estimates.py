"""One metric of a few pictures loads no more than it needs, and says when nothing comes of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from seen import Looking

from lcm_lora.errors import UserError
from lcm_lora.evaluation.estimates import estimator_of
from lcm_lora.seeing import viewers
from lcm_lora.shapes.scenes import Scene

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("metric", "needed"),
    [
        ("attributes", "load_attribute_judge"),
        ("clip_score", "load_clip_scorer"),
        ("kid_shapes:real", "load_feature_network"),
    ],
)
def test_only_what_a_metric_needs_is_loaded(
    looking: Looking,
    scenes: list[Scene],
    pictures: NDArray[np.uint8],
    metric: str,
    needed: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded = []
    for name in ("load_attribute_judge", "load_clip_scorer", "load_feature_network"):
        load = getattr(viewers, name)

        def noted(*args: Any, name: str = name, load: Any = load) -> Any:
            loaded.append(name)
            return load(*args)

        monkeypatch.setattr(viewers, name, noted)
    captions = tuple(scene.caption for scene in scenes[:8])
    eight = list(pictures[:8])
    measure = estimator_of(metric, looking.job().networks, captions, iter(eight), CPU)
    first, again = measure(iter(eight)), measure(iter(eight))
    assert first == again
    assert np.isfinite([first.value, first.se]).all()
    assert loaded == [needed]


def test_broken_weights_are_one_line(
    looking: Looking,
    judges: Path,
    scenes: list[Scene],
    pictures: NDArray[np.uint8],
    tmp_path: Path,
) -> None:
    looking.judges = tmp_path / "judges"
    shutil.copytree(judges, looking.judges)
    (weights,) = (looking.judges / "clip").glob("*.safetensors")
    tensors = load_file(weights)
    save_file({name: tensor * float("nan") for name, tensor in tensors.items()}, weights)
    networks, captions = looking.job().networks, tuple(scene.caption for scene in scenes[:8])
    with pytest.raises(UserError, match=r"judges/clip: gives features that are not finite; mend"):
        estimator_of("kid_shapes:real", networks, captions, list(pictures[:8]), CPU)
