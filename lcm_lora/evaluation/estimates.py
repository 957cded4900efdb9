"""One metric of a few pictures with its standard error, from no more networks than it needs.

Legend: N pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lcm_lora.errors import UserError
from lcm_lora.evaluation.features import (
    BATCH,
    attributes_of,
    clip_scores_of,
    extract,
    load_attribute_judge,
)
from lcm_lora.evaluation.kernel import kernel_distance, kernel_standard_error
from lcm_lora.evaluation.networks import FeatureNetwork, load_clip_scorer, load_feature_network
from lcm_lora.params.score import Score
from lcm_lora.shapes import places


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its standard error over pictures."""

    value: float
    se: float


Estimator = Callable[[list[Path]], Estimate]
"""Takes N picture files, in the order of the captions."""


def estimator_of(
    metric: str,
    score: Score,
    captions: Sequence[str],
    real: list[Path],
    device: torch.device,
    judges: Path = places.JUDGES,
) -> Estimator:
    """Load what a metric needs, and return the function that measures pictures by it.

    Args:
        metric: A name of `selection_metrics`.
        score: Which networks look.
        captions: N captions.
        real: The captions' own N pictures; only distances look at them.
        device: Of torch.
        judges: Folder of the networks that the shapes world ships.

    Raises:
        UserError: A network is missing or wrong, or captions are not of the shapes world although
            attributes are asked for.
    """
    if metric == "clip_score":
        clip = load_clip_scorer(score.clip, judges, device)
        return lambda files: _mean(clip_scores_of(files, captions, clip))
    if metric == "attributes":
        judge = load_attribute_judge(judges).to(device)
        return lambda files: _mean(attributes_of(files, captions, judge, device))
    network = load_feature_network(score.features, judges, device)
    reference = _features(real, network, device)
    return lambda files: _distance(_features(files, network, device), reference)


def _features(
    files: list[Path], network: FeatureNetwork, device: torch.device
) -> NDArray[np.float32]:
    return extract(files, network, BATCH, device, lambda *_: None)


def _mean(values: NDArray[np.generic]) -> Estimate:
    numbers = values.astype(np.float64)
    return _finite(numbers.mean(), numbers.std(ddof=1) / np.sqrt(len(numbers)))


def _distance(found: NDArray[np.float32], reference: NDArray[np.float32]) -> Estimate:
    """Return the kernel distance: it has no bias, a Fréchet distance of so few is mostly bias."""
    return _finite(
        kernel_distance(found, reference, matched=True),
        kernel_standard_error(found, reference, matched=True),
    )


def _finite(value: float, se: float) -> Estimate:
    if not np.isfinite([value, se]).all():
        raise UserError(f"select.metric: came to {value}; check the weights of score's network")
    return Estimate(float(value), float(se))
