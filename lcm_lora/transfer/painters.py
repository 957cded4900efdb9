"""Who paints in a subject: it alone, with the new adapter, and in every mix of the map."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base import read_base
from lcm_lora.painting.subject import Places, Subject, Weighted, read_subject, with_adapter
from lcm_lora.params.generate import ADAPTER, Sampling
from lcm_lora.params.transfer import Mix, Transfer


@dataclass(frozen=True, slots=True)
class Painter:
    """Somebody who paints: a base with weighted adapters, and how."""

    sampling: Sampling
    subject: Subject


def read_painters(
    name: str, params: Transfer, places: Places, hashes: Hashes
) -> dict[str, Painter]:
    """Return who paints in a subject, by the painters' names, in the order of tables.

    Args:
        name: Of the subject.
        params: How they paint, and which mixes there are.
        places: Where the new adapter is, and what the first look saw.
        hashes: Of files that were read before.

    Raises:
        UserError: A base or an adapter is missing, damaged or changed since the first look; or the
            new adapter was distilled from another base than the project's.
    """
    base = read_base(places.inventory / "base.json", hashes)
    own = read_subject(base, seen(places.inventory, name), hashes)
    new = replace(with_adapter(base, places.adapter), base=own.base)
    return painters_of(name, params, own, new)


def seen(inventory: Path, name: str) -> Path:
    """Return the file of what the first look saw of a subject."""
    return inventory / "transfer" / f"{name}.json"


def painters_of(name: str, params: Transfer, own: Subject, new: Subject) -> dict[str, Painter]:
    """Return the same of a subject and an adapter that are known.

    Args:
        name: Of the subject.
        params: How they paint, and which mixes there are.
        own: Its base with its styles.
        new: The same base with the new adapter alone.
    """
    alone = {who: Painter(sampling, own) for who, sampling in params.painters.items()}
    whole = {ADAPTER: Painter(params.adapter, _mixed(own, new, Mix(1.0, 1.0)))}
    return alone | whole | dict(_mixes(name, params, own, new))


def _mixes(
    name: str, params: Transfer, own: Subject, new: Subject
) -> Iterator[tuple[str, Painter]]:
    if params.map is None:
        return
    sampling = params.adapter.model_copy(update={"cells": (params.map.cell,)})
    for mix in params.mixes(name):
        yield mix.name, Painter(sampling, _mixed(own, new, mix))


def _mixed(own: Subject, new: Subject, mix: Mix) -> Subject:
    """Return the subject with so much of the new adapter, and so much of its own ones.

    All mixes step over the grid of the new adapter, so that nothing but weights differs.
    """
    adapters = (*_times(new.adapters, mix.acceleration), *_times(own.adapters, mix.style))
    return Subject(own.base, adapters, new.lcm_config)


def _times(adapters: tuple[Weighted, ...], share: float) -> tuple[Weighted, ...]:
    """Return adapters at a share of their weights; without those that do nothing then."""
    scaled = (replace(adapter, weight=adapter.weight * share) for adapter in adapters)
    return tuple(adapter for adapter in scaled if adapter.weight)
