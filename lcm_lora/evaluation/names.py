"""Every metric that a table can hold: its name, its title, its direction. The one place for them.

No torch and nothing heavy is imported, so that params can be checked against it before any work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from lcm_lora.evaluation.scores import MetricRecord
from lcm_lora.params.generate import Cell
from lcm_lora.params.score import ATTRIBUTES, Looks, Network, Score, judged

FEATURES, PLUGINS = "features", "plugins"
"""Where arrays of features lie: `features/NETWORK`, `plugins/NAME`."""

CLIP_SCORE = "clip_score"


def metrics_of(score: Score, several_noises: bool, looks: Looks = None) -> tuple[MetricRecord, ...]:
    """Return the metrics that a table will hold of every painter.

    Args:
        score: What is measured.
        several_noises: Some cell is painted from more than one set of noises, which the diversity
            within a prompt needs.
        looks: Which looks pictures should have.
    """
    networks = [
        metric
        for name, network in score.networks.items()
        for metric in _of_network(name, network, several_noises)
    ]
    return (*networks, *_of_captions(score, looks), *_of_plugins(score))


def has_several_noises(cells: Iterable[Cell]) -> bool:
    """Tell whether some cell is painted from the first set of noises and from another one too."""
    noises: dict[tuple[int, float], set[int]] = {}
    for cell in cells:
        noises.setdefault((cell.steps, cell.guidance), set()).add(cell.seeds)
    return any(0 in seeds and len(seeds) > 1 for seeds in noises.values())


def selection_metrics(score: Score) -> list[str]:
    """Return the names of the metrics by which the best candidate can be chosen.

    No Fréchet distance is among them: of the few pictures of the selection set it is mostly bias.
    The distance is that of the first network, to the captions' own pictures.
    """
    return [metric.name for metric in _of_candidates(score)]


def selection_metric(score: Score, name: str) -> MetricRecord:
    """Return the metric of a name among `selection_metrics`."""
    return {metric.name: metric for metric in _of_candidates(score)}[name]


def _of_candidates(score: Score) -> Iterator[MetricRecord]:
    name, network = next(iter(score.networks.items()))
    yield _kernel_distance(name, network, "real")
    yield from _of_captions(score, None)


def distance_name(kind: str, name: str, network: Network) -> str:
    """Return what a distance is called without its reference.

    FID and KID are those of one network only, of the 2015 Inception.
    """
    if network.kind == "inception":
        return {"fd": "fid"}.get(kind, kind)
    return f"{kind}_{name}"


def _of_network(name: str, network: Network, several_noises: bool) -> Iterator[MetricRecord]:
    for reference in ("real", "teacher"):
        yield _kernel_distance(name, network, reference)
        yield _metric(
            f"{distance_name('fd', name, network)}:{reference}",
            f"Fréchet distance to {_WORDS[reference]} ({name})",
            kind="fd",
            array=f"{FEATURES}/{name}",
            reference=reference,
            is_unbiased=False,
        )
        if network.kind == "clip":
            yield _metric(
                f"cmmd_{name}:{reference}",
                f"CMMD to {_WORDS[reference]} ({name})",
                kind="cmmd",
                array=f"{FEATURES}/{name}",
                reference=reference,
            )
    for kind, title in (("precision", "Precision"), ("recall", "Recall")):
        yield _metric(
            f"{kind}_{name}:real",
            f"{title} ({name})",
            kind=kind,
            array=f"{FEATURES}/{name}",
            reference="real",
            lower_is_better=False,
            is_unbiased=False,
            unit="share",
        )
    if several_noises:
        yield _metric(
            f"diversity_{name}",
            f"Diversity within a prompt ({name})",
            kind="diversity",
            array=f"{FEATURES}/{name}",
            lower_is_better=False,
        )


def _kernel_distance(name: str, network: Network, reference: str) -> MetricRecord:
    return _metric(
        f"{distance_name('kid', name, network)}:{reference}",
        f"Kernel distance to {_WORDS[reference]} ({name})",
        kind="kid",
        array=f"{FEATURES}/{name}",
        reference=reference,
    )


def _of_captions(score: Score, looks: Looks) -> Iterator[MetricRecord]:
    yield _metric(
        CLIP_SCORE, "CLIP score", kind="mean", array="clip", lower_is_better=False, unit="points"
    )
    for name in judged(score, looks):
        yield _metric(
            name, _TITLES[name], kind="mean", array=name, lower_is_better=False, unit="share"
        )


def _of_plugins(score: Score) -> Iterator[MetricRecord]:
    for name, plugin in score.plugins.items():
        lower = plugin.lower_is_better
        array = f"{PLUGINS}/{name}"
        # What a command's numbers mean is not known, so they are shown as they are.
        yield _metric(name, name, kind="mean", array=array, lower_is_better=lower)


def _metric(name: str, title: str, **rest: Any) -> MetricRecord:
    usual = {"reference": None, "lower_is_better": True, "is_unbiased": True, "unit": "distance"}
    return MetricRecord(name=name, title=title, **usual | rest)


_TITLES = {
    ATTRIBUTES: "Attributes as asked for",
    "look": "Looks as they should be",
    "both": "Attributes and looks",
}
_WORDS = {"real": "real pictures", "teacher": "the teacher"}
