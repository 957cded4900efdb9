"""What a source of pictures holds, and what is new in it."""

from __future__ import annotations

from collections import Counter

from lcm_lora.data.units import SourceInventory, list_units
from lcm_lora.hashes import Hashes
from lcm_lora.params.sources import Source


def look_at_source(
    source: Source, hashes: Hashes, before: SourceInventory | None
) -> SourceInventory:
    """Return what is in a source now; `before` spares counting the pictures of known tars."""
    known = {unit.sha256: unit.pictures for unit in before.units} if before else {}
    return SourceInventory(kind=source.kind, units=tuple(list_units(source, hashes, known)))


def changes(before: SourceInventory | None, now: SourceInventory) -> str:
    """Say in one line what is new: `3 new tars, 30,112 pictures`."""
    what = {"webdataset": "tar", "folder": "run"}.get(now.kind, "part")
    if before is None or before.kind != now.kind:
        return f"first look: {_counted(what, len(now.units))}, {now.pictures:,} pictures"
    old = {unit.name: unit.sha256 for unit in before.units}
    new = {unit.name: unit.sha256 for unit in now.units}
    if old == new:
        return f"nothing new ({_counted(what, len(new))}, {now.pictures:,} pictures)"
    lost = Counter(old[name] for name in old.keys() - new.keys())
    came = Counter(new[name] for name in new.keys() - old.keys())
    renamed = (lost & came).total()
    counts = {
        "new": came.total() - renamed,
        "removed": lost.total() - renamed,
        "renamed": renamed,
        "changed": sum(old[name] != new[name] for name in old.keys() & new.keys()),
    }
    words = [_counted(f"{verb} {what}", count) for verb, count in counts.items() if count]
    return f"{', '.join(words)}, {_pictures(before.pictures, now.pictures)}"


def touches_first(prefix: tuple[tuple[str, str], ...], now: SourceInventory) -> bool:
    """Tell whether the source begins otherwise than with these units, by name and hash."""
    return prefix != tuple((unit.name, unit.sha256) for unit in now.units[: len(prefix)])


def _pictures(before: int, now: int) -> str:
    gained = now - before
    if not gained:
        return f"{now:,} pictures as before"
    return f"{abs(gained):,} pictures {'more' if gained > 0 else 'fewer'}: {now:,}"


def _counted(what: str, count: int) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
