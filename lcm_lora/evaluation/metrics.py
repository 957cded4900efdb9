"""Compute the metrics of one image set, by name.

Legend: N pictures, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lcm_lora.evaluation.cells import Measured, MeasuredSet
from lcm_lora.evaluation.frechet import frechet_distance
from lcm_lora.evaluation.kernel import kernel_distance, kernel_standard_error
from lcm_lora.evaluation.names import distance_name
from lcm_lora.evaluation.resampling import FrechetReference, resample_frechet, resample_mean

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class References:
    """What image sets are compared with, and the factored covariances of it."""

    measured: Measured
    real: FrechetReference
    teacher: FrechetReference

    @classmethod
    def of(cls, measured: Measured) -> Self:
        """Prepare the references for all sets of a table."""
        real = FrechetReference.of(measured.reference.features)
        return cls(measured, real, FrechetReference.of(measured.teacher.features))

    def of_set(self, cell: MeasuredSet) -> Iterator[tuple[str, MeasuredSet, FrechetReference]]:
        """Yield (name, set, factored) of each reference that says something about `cell`."""
        teacher = self.measured.teacher
        yield "real", self.measured.reference, self.real
        # The teacher with other noises is the floor; with the same ones it is the reference.
        if cell.sampler != "real" and (cell.sampler != "teacher" or cell.seeds != teacher.seeds):
            yield "teacher", teacher, self.teacher


def measure(
    cell: MeasuredSet, references: References, counts: Array
) -> Iterator[tuple[str, float, Array | float]]:
    """Yield each metric of a set: its name, its value, and its resamples or its standard error.

    Args:
        cell: The set.
        references: Of the table.
        counts: How often each resample takes each prompt, [R, N]; the same for all sets.
    """
    network = cell.record.network.name
    for name, reference, factored in references.of_set(cell):
        yield (
            f"{distance_name('fd', network)}:{name}",
            frechet_distance(cell.features, reference.features),
            resample_frechet(cell.features, factored, counts),
        )
        matched = cell.record.captions_sha256 == reference.record.captions_sha256
        yield (
            f"{distance_name('kid', network)}:{name}",
            kernel_distance(cell.features, reference.features, matched),
            kernel_standard_error(cell.features, reference.features, matched),
        )
    clip = cell.clip.astype(np.float64)
    yield "clip_score", float(np.mean(clip)), resample_mean(clip, counts)
    if cell.attributes is not None:
        share = float(np.mean(cell.attributes))
        yield "attributes", share, resample_mean(cell.attributes, counts)
