"""One metric of a few pictures with its standard error, from no more networks than it needs.

Legend: N pictures, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lcm_lora.errors import UserError
from lcm_lora.evaluation.kernel import kernel_distance, kernel_standard_error
from lcm_lora.seeing.looking import Pixels, Viewer, look
from lcm_lora.seeing.network_files import Networks
from lcm_lora.seeing.viewers import Captions, Viewers


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its standard error over pictures."""

    value: float
    se: float


Estimator = Callable[[Iterable[Pixels]], Estimate]
"""Takes N pictures, uint8 [H, W, 3], in the order of the captions; holds a few at a time."""


def estimator_of(
    metric: str,
    networks: Networks,
    captions: Captions,
    real: Iterable[Pixels],
    device: torch.device,
) -> Estimator:
    """Load what a metric needs, and return the function that measures pictures by it.

    Args:
        metric: A name of `selection_metrics`.
        networks: Which networks look; a distance takes the first.
        captions: N captions.
        real: The captions' own N pictures; only distances look at them.
        device: Of torch.

    Raises:
        UserError: A network is missing or wrong, or captions are not of the shapes world although
            attributes are asked for.
    """
    viewers = Viewers(networks, device)
    if metric == "clip_score":
        return _mean_of(viewers.clip(captions), device)
    if metric in networks.judged:
        return _mean_of(viewers.judged(captions, metric), device)
    view = viewers.features(next(iter(networks.features)))
    reference = _seen(real, view, device)
    return lambda pictures: _distance(_seen(pictures, view, device), reference)


def _seen(pictures: Iterable[Pixels], view: Viewer, device: torch.device) -> NDArray[np.float32]:
    return look(pictures, {"it": view}, device)["it"]


def _mean_of(view: Viewer, device: torch.device) -> Estimator:
    def measure(pictures: Iterable[Pixels]) -> Estimate:
        values = _seen(pictures, view, device).astype(np.float64)
        return _finite(values.mean(), values.std(ddof=1) / np.sqrt(len(values)))

    return measure


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
