"""All that the first look sees, and whether a run can end well on it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lcm_lora.check import check_counts, check_disk, check_params
from lcm_lora.data.units import SourceInventory
from lcm_lora.errors import UserError
from lcm_lora.families.check import check_base
from lcm_lora.families.found import BaseInventory
from lcm_lora.hashes import Hashes
from lcm_lora.inventory.base import look_at_base
from lcm_lora.inventory.networks import NetworkInventory, look_at_networks
from lcm_lora.inventory.painters import PainterInventory, look_at_painters
from lcm_lora.inventory.source import look_at_source
from lcm_lora.inventory.subjects import look_at_subjects
from lcm_lora.params.file import Params
from lcm_lora.params.prepare import Prepare
from lcm_lora.records import Record, RecordT, read_record

_KINDS: dict[str, type[Record]] = {
    "source": SourceInventory,
    "evaluation": SourceInventory,
    "base": BaseInventory,
    "networks": NetworkInventory,
}

PAINTERS, SUBJECTS, JUDGES = "painters", "transfer", "transfer-networks"
"""Folders of records: of each painter, of each subject, and of who looks at its pictures."""

_NONE = SourceInventory(kind="none", units=())
"""Of the evaluation set, where it comes from the held-out pictures."""


@dataclass(frozen=True, slots=True)
class Look:
    """What lies outside the graph; None for what was not seen."""

    source: SourceInventory | None = None
    evaluation: SourceInventory | None = None
    base: BaseInventory | None = None
    networks: NetworkInventory | None = None
    painters: Mapping[str, PainterInventory] = field(default_factory=dict)
    """Those that name a base or adapters of their own are in there too."""
    subjects: Mapping[str, PainterInventory] = field(default_factory=dict)
    """Of the transfer evaluation."""
    judges: Mapping[str, NetworkInventory] = field(default_factory=dict)
    """And who looks at the pictures of each, which may have looks of its own."""

    @classmethod
    def read(cls, folder: Path) -> Look:
        """Return what an earlier look wrote into `folder`; what is damaged counts as not seen."""
        found: dict[str, Any] = {}
        for name, kind in _KINDS.items():
            with contextlib.suppress(UserError):
                found[name] = read_record(folder / f"{name}.json", kind, "")
        return cls(
            painters=_read_all(folder / PAINTERS, PainterInventory),
            subjects=_read_all(folder / SUBJECTS, PainterInventory),
            judges=_read_all(folder / JUDGES, NetworkInventory),
            **found,
        )

    def records(self) -> dict[str, Record]:
        """Return what was seen, by name."""
        seen = {name: getattr(self, name) for name in _KINDS}
        found: dict[str, Record] = {n: record for n, record in seen.items() if record is not None}
        for folder, records in self.folders().items():
            found |= {f"{folder}/{name}": record for name, record in records.items()}
        return found

    def folders(self) -> dict[str, Mapping[str, Record]]:
        """Return what was seen of many things of a kind, by the folder of their records."""
        return {PAINTERS: self.painters, SUBJECTS: self.subjects, JUDGES: self.judges}


def _read_all(folder: Path, kind: type[RecordT]) -> dict[str, RecordT]:
    found: dict[str, RecordT] = {}
    for file in sorted(folder.glob("*.json")):
        with contextlib.suppress(UserError):
            found[file.stem] = read_record(file, kind, "")
    return found


def look(params: Params, hashes: Hashes, before: Look) -> Look:
    """Return what is there now; `before` spares work on what is known.

    Raises:
        UserError: Something is missing, or the parameters contradict each other.
    """
    check_params(params)
    own = params.evaluation.source
    base = look_at_base(params.base, hashes)
    return Look(
        source=look_at_source(params.prepare.source, hashes, before.source),
        evaluation=look_at_source(own, hashes, before.evaluation) if own else _NONE,
        base=base,
        networks=look_at_networks(params.score, hashes),
        painters=look_at_painters(params.generate, base, hashes),
        subjects=look_at_subjects(params.transfer, base, hashes),
        judges=look_at_judges(params, hashes),
    )


def look_at_judges(params: Params, hashes: Hashes) -> dict[str, NetworkInventory]:
    """Return who looks at the pictures of each subject, by the subject's name.

    Raises:
        UserError: One is missing or of another kind.
    """
    transfer, score = params.transfer, params.score
    return {
        name: look_at_networks(score, hashes, looks=subject.looks)
        for name, subject in transfer.subjects.items()
    }


def check_look(params: Params, before: Look, now: Look) -> None:
    """Refuse what cannot end well, as early as it can be known.

    Raises:
        UserError: The base does not suit the parameters, there are too few pictures, or the disk
            will not hold what is planned.
    """
    assert now.source is not None
    assert now.base is not None
    check_base(params, now.base.structure)
    own = now.evaluation.pictures if params.evaluation.source and now.evaluation else None
    check_counts(params, now.source.pictures, own)
    where = Path.cwd()
    needed = new_bytes(params.prepare, before.source, now.source)
    check_disk(needed, shutil.disk_usage(where).free, where)


def new_bytes(params: Prepare, before: SourceInventory | None, now: SourceInventory) -> int:
    """Return about how many bytes shards and cache will take of what is new in the source."""
    known = {unit.sha256 for unit in before.units} if before else set()
    new = sum(unit.pictures for unit in now.units if unit.sha256 not in known)
    return new * planned_bytes(params)


def planned_bytes(params: Prepare) -> int:
    """Return about how many bytes a training sample takes, in shards and cache together.

    Measured on photographs: 1.8 bytes a pixel as PNG, 0.25 as WebP of quality 90. Besides, two
    moments of four channels in half precision for every 8 x 8 pixels.
    """
    pixels = params.resolution**2
    picture = 1.8 if params.quality is None else 0.25
    return int(pixels * picture) + pixels // 64 * 16
