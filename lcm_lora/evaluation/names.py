"""What the metrics of a table are called."""

from __future__ import annotations

from typing import Literal

from lcm_lora.errors import UserError

INCEPTION = "inception-2015-12-05"
"""The feature network with which a Fréchet distance is called FID."""

_INCEPTION_SHA256 = ("f58cb9b6ec32", "19e958f4")  # how it begins and ends


def distance_name(kind: Literal["fd", "kid"], network: str) -> str:
    """Return a distance's name without its reference; FID and KID are those of one network only."""
    if network == INCEPTION:
        return {"fd": "fid", "kid": "kid"}[kind]
    return f"{kind}_{network}"


def adapter_metrics(network: str, attributes: bool) -> list[str]:
    """Return the metrics that a table holds of an adapter.

    Args:
        network: Name of the feature network.
        attributes: Whether attributes are judged.
    """
    distances = (distance_name("fd", network), distance_name("kid", network))
    names = [f"{name}:{reference}" for reference in ("real", "teacher") for name in distances]
    return [*names, "clip_score", *(["attributes"] if attributes else [])]


def selection_metrics(network: str, attributes: bool) -> list[str]:
    """Return the metrics by which the best candidate can be chosen.

    A Fréchet distance is none of them: of the few pictures of the selection set it is mostly bias.

    Args:
        network: Name of the feature network.
        attributes: Whether attributes are judged.
    """
    return [
        f"{distance_name('kid', network)}:real",
        "clip_score",
        *(["attributes"] if attributes else []),
    ]


def is_lower_better(metric: str) -> bool:
    """Tell whether a metric is a distance."""
    return metric.startswith(("fid", "kid", "fd_", "kid_"))


def check_inception(path: str, sha256: str) -> None:
    """Refuse another network than the one that every published FID was measured with.

    Raises:
        UserError: The file of this SHA-256 is another one.
    """
    begins, ends = _INCEPTION_SHA256
    if not (sha256.startswith(begins) and sha256.endswith(ends)):
        raise UserError(
            f"score.features {path}: not the 2015 Inception weights: its SHA-256 begins"
            f" {sha256[:12]}, not {begins}; fetch {INCEPTION}.pt again"
        )
