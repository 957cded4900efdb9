"""What a stage took: hours, energy and whose, kept by the key of what it made.

A restored stage took nothing this time, but what it restored was made once, here or on another
machine; by the key of its entry in dvc.lock everybody finds what that took.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lcm_lora import layout
from lcm_lora.errors import UserError
from lcm_lora.params.costs import Costs
from lcm_lora.records import Record, parse_record, read_record, write_record
from lcm_lora.store import shared_store
from tasks.running import gpus
from tasks.running.graph import entries
from tasks.running.run_cache import key_of

_PLACE = "costs"
_SHARES = "costs-of-shares"
_TRIES, _PAUSE = 10, 0.2
"""So often dvc.lock is read, and the seconds between: other stages write it in place."""
_HOUR = 3600.0
_KILOWATT_HOUR = 3.6e6


class Cost(Record):
    """What one run of a stage took, from its start to its end; earlier attempts are not in it."""

    started: str
    """UTC, to the second."""
    seconds: float
    cpu_seconds: float
    """Of all its processes, and DVC's own."""
    gpus: int
    """That were held for it; those are its own alone only where nothing else runs there."""
    gpu: str | None
    """Their name."""
    joules: float | None
    """Drawn by the GPUs; null where there is none, or it cannot be read."""


class Spent(Record):
    """What several stages took together."""

    seconds: float
    """One after the other."""
    cpu_seconds: float
    gpu_seconds: float
    """Seconds times GPUs."""
    joules: float | None
    """Null where none held a GPU, or one of those that did could not be read."""
    price: float
    currency: str
    missing: tuple[str, ...]
    """Stages that have no record, such as those of before there were any; they are in no sum."""

    def __str__(self) -> str:
        parts = [f"{_time(self.gpu_seconds)} of a GPU"] if self.gpu_seconds else []
        parts.append(f"{_time(self.cpu_seconds)} of a CPU core")
        if self.joules is not None:
            parts.append(f"{self.joules / _KILOWATT_HOUR:.3g} kWh")
        if self.price:
            parts.append(f"{self.price:.2f} {self.currency}")
        unknown = f"; no record of {', '.join(self.missing)}" if self.missing else ""
        return ", ".join(parts) + unknown


def _time(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 2 * _HOUR else f"{seconds / _HOUR:.4g} h"


class Meter:
    """Measures while a stage runs."""

    def __init__(self, on_gpus: bool) -> None:
        """Start.

        Args:
            on_gpus: The stage holds the GPUs that are here.
        """
        self._at = datetime.now(UTC)
        self._since = time.monotonic()
        self._gpus = gpus.visible() if on_gpus else []
        self._cpu_seconds = 0.0

    def add_cpu_seconds(self, cpu_seconds: float) -> None:
        """Add what a process took that has ended."""
        self._cpu_seconds += cpu_seconds

    def read(self) -> Cost:
        """Return what it took so far."""
        return Cost(
            started=self._at.isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - self._since, 3),
            cpu_seconds=round(self._cpu_seconds, 3),
            gpus=len(self._gpus),
            gpu=self._gpus[0].name if self._gpus else None,
            joules=drawn(self._gpus, gpus.visible()) if self._gpus else None,
        )


def drawn(before: Sequence[gpus.Gpu], after: Sequence[gpus.Gpu]) -> float | None:
    """Return the joules between two looks at the same GPUs; None where one does not say."""
    ends = [(b.joules, a.joules) for b, a in zip(before, after, strict=False)]
    known = [end - start for start, end in ends if start is not None and end is not None]
    return round(sum(known), 3) if known and len(known) == len(before) else None


def keep_of_stage(root: Path, stage: str, cost: Cost) -> None:
    """Keep what a stage took that has just ended, by its new entry in dvc.lock."""
    for _ in range(_TRIES):
        if entry := entries(root / "dvc.lock").get(stage):
            return keep(root, key_of(entry), cost)
        time.sleep(_PAUSE)


def keep(root: Path, key: str, cost: Cost) -> None:
    """Keep a cost in the project's folder `root`, by the run-cache's key of what was made.

    And in the store that machines share, if it takes it: what was made stays made if it does not.
    """
    write_record(_local(root, key), cost)
    with contextlib.suppress(UserError, OSError):
        if store := shared_store():
            store.at(_PLACE).write(f"{key}.json", cost.model_dump_json().encode())


def keep_of_share(key: str, share: str, cost: Cost) -> None:
    """Keep what a share of a stage took, in the store that machines share, if it takes it.

    Args:
        key: The run-cache's key of what the whole stage makes.
        share: As 2/4.
        cost: Of this share alone.
    """
    with contextlib.suppress(UserError, OSError):
        if store := shared_store():
            name = f"{key}/{share.replace('/', '-of-')}.json"
            store.at(_SHARES).write(name, cost.model_dump_json().encode())


def of_shares(key: str) -> list[Cost]:
    """Return what shares took of a stage whose outputs have a key; those damaged are left out."""
    with contextlib.suppress(UserError, OSError):
        if store := shared_store():
            place = store.at(_SHARES).at(key)
            known = [content for _, content in place.read_all(place.names())]
            return [parse_record(content, Cost, place.root, "") for content in known]
    return []


def find(root: Path, key: str) -> Cost | None:
    """Return the cost of what has a key; None where none was kept, or it is damaged."""
    with contextlib.suppress(UserError):
        return read_record(_local(root, key), Cost, "")
    with contextlib.suppress(UserError, OSError):
        if store := shared_store():
            content = store.at(_PLACE).read(f"{key}.json")
            return parse_record(content, Cost, store.place(_PLACE), "")
    return None


def spent(root: Path, made: Mapping[str, Mapping[str, Any]], prices: Costs) -> Spent:
    """Return what entries of dvc.lock took together.

    Args:
        root: The project's folder.
        made: Entries by the names of their stages.
        prices: Of hours and energy.
    """
    keys = {name: key_of(entry) for name, entry in made.items()}
    found = {name: find(root, key) for name, key in keys.items()}
    costs = [cost for cost in found.values() if cost]
    costs += [cost for key in keys.values() for cost in of_shares(key)]
    energies = [cost.joules for cost in costs if cost.gpus]
    joules = sum(known) if (known := [e for e in energies if e is not None]) else None
    whole = joules if len(known) == len(energies) else None
    cpu_seconds = sum(cost.cpu_seconds for cost in costs)
    gpu_seconds = sum(cost.seconds * cost.gpus for cost in costs)
    price = prices.cpu_hour * cpu_seconds / _HOUR + prices.gpu_hour * gpu_seconds / _HOUR
    return Spent(
        seconds=sum(cost.seconds for cost in costs),
        cpu_seconds=cpu_seconds,
        gpu_seconds=gpu_seconds,
        joules=whole,
        price=price + prices.kilowatt_hour * (whole or 0.0) / _KILOWATT_HOUR,
        currency=prices.currency,
        missing=tuple(sorted(name for name, cost in found.items() if cost is None)),
    )


def _local(root: Path, key: str) -> Path:
    return root / layout.CHECKPOINTS / _PLACE / f"{key}.json"
