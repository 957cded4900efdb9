"""Paint with variants of an adapter, and compare what they paint with the whole one's pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lcm_lora import layout
from lcm_lora.combining.delta import Lora
from lcm_lora.combining.write import write_lora
from lcm_lora.device import pick_device
from lcm_lora.evaluation.cells import Compared, Measured, read_measured
from lcm_lora.evaluation.metrics import instrument_of
from lcm_lora.evaluation.names import CLIP_SCORE, metrics_of
from lcm_lora.evaluation.scores import MetricRecord
from lcm_lora.evaluation.simultaneous import half_width
from lcm_lora.files import sha256
from lcm_lora.hashes import Hashes
from lcm_lora.painting.sets import Theme, generate
from lcm_lora.painting.studio import Studio
from lcm_lora.painting.subject import Subject, Weighted
from lcm_lora.params.generate import REAL, TEACHER, Cell, Sampling
from lcm_lora.params.hardware import Hardware
from lcm_lora.params.score import ATTRIBUTES, Score
from lcm_lora.pieces import Pieces
from lcm_lora.seeing.features import Job, features_of_all
from lcm_lora.seeing.image_sets import generated_sets, real_sets
from lcm_lora.seeing.network_files import find_networks

COMMAND = "python -m bench.arithmetic"

FEW = Cell(steps=4, guidance=1.0)
"""How variants paint."""
MANY = Cell(steps=25, guidance=3.0, seeds=1)
"""How the teacher does, from noises that no variant starts from."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a study is of, and where it keeps what it made."""

    subject: Subject
    """The base with the adapter that variants are of."""
    theme: Theme
    hardware: Hardware
    score: Score
    folder: Path
    """Of pictures, features, and the pieces of which they are linked."""
    hashes: Hashes

    @property
    def images(self) -> Path:
        """A folder for each variant."""
        return self.folder / "images"

    @property
    def features(self) -> Path:
        """The same of what was seen of them."""
        return self.folder / "features"

    def painter_of(self, lora: Lora, name: str) -> Subject:
        """Return the base with a variant, which is written to a file."""
        if not lora:
            return replace(self.subject, adapters=())
        file = self.folder / "variants" / f"{name}.safetensors"
        write_lora(lora, file, "diffusers", {})
        return replace(self.subject, adapters=(Weighted(file, sha256(file)),))


def paint_all(place: Place, variants: Mapping[str, Lora]) -> None:
    """Paint with the teacher and every variant; what was painted before is linked."""
    alone = replace(place.subject, adapters=(), lcm_config=None)
    _paint(place, TEACHER, alone, Sampling(sampler="ddim", cells=(MANY,)))
    for name, lora in variants.items():
        _paint(place, name, place.painter_of(lora, name), Sampling(sampler="lcm", cells=(FEW,)))


def _paint(place: Place, name: str, subject: Subject, how: Sampling) -> None:
    pieces = Pieces(place.folder / "generate", place.hashes)
    studio = Studio(subject, place.hardware)
    generate(name, how, place.theme, studio, pieces, place.images / name)


def measure(place: Place, names: Sequence[str]) -> Measured:
    """Look at what the teacher and variants painted, and return it as a table takes it."""
    score, count = place.score, len(place.theme.captions)
    networks = find_networks(score, place.hashes)
    pieces = Pieces(place.folder / "seen", place.hashes)
    job = Job(score, networks, pick_device(place.hardware), pieces, place.hashes)
    sets = {REAL: [images.first(count) for images in real_sets(layout.EVALUATION)]}
    for name in (TEACHER, *names):
        sets[name] = generated_sets(place.images / name, name, COMMAND)
    features_of_all(job, "arithmetic", "features", sets, place.features)
    looking = Compared(place.features, (TEACHER, *names), frozenset(), lambda name: COMMAND)
    return read_measured(looking)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a variant paints by a metric, and how much that differs from the whole adapter."""

    question: str
    variant: str
    metric: str
    value: float
    low: float
    high: float
    difference: float
    """Of the variant minus the whole adapter, over the same captions and noises."""
    difference_low: float
    difference_high: float
    """All intervals of a question and a metric hold together."""


def metrics_for(score: Score) -> tuple[MetricRecord, MetricRecord]:
    """Return the share of right pictures, or the CLIP score; and the distance to the teacher."""
    metrics = metrics_of(score, several_noises=False)
    by_name = {metric.name: metric for metric in metrics}
    distances = (m for m in metrics if (m.kind, m.reference) == ("kid", TEACHER))
    return by_name.get(ATTRIBUTES, by_name[CLIP_SCORE]), next(distances)


def outcomes(
    question: str, whole: str, names: Sequence[str], measured: Measured, score: Score
) -> list[Outcome]:
    """Return how the variants of a question differ from the whole adapter.

    Args:
        question: Its name.
        whole: That of the whole adapter, with which all are compared.
        names: Those of the variants.
        measured: What was seen of all.
        score: What is measured, and how sure intervals are.
    """
    cells = {cell.record.painter: cell for cell in measured.cells}
    alone, together = half_width(score.level), half_width(score.level, len(names))
    found = []
    for metric in metrics_for(score):
        instrument = instrument_of(metric, measured, score.seed)
        differences = instrument.differences(cells[whole], [cells[name] for name in names])
        for name, from_whole in zip(names, differences, strict=True):
            own, difference = instrument.estimate(cells[name]), -from_whole.value
            half, wide = alone * own.se, together * from_whole.se
            values = (own.value, own.value - half, own.value + half)
            apart = (difference, difference - wide, difference + wide)
            found.append(Outcome(question, name, metric.name, *values, *apart))
    return found
