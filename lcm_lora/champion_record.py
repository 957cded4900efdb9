"""Which version the champion is, as a record: all that others need of it but its adapter."""

from __future__ import annotations

from pathlib import Path

from lcm_lora.records import Record, read_record

CHAMPION = "champion.json"


class Champion(Record):
    """The registry's champion as it was brought here: which version, and its weights."""

    version: str
    """Such as `lcm-lora-shapes version 3`."""
    weights_sha256: str


class Brought(Record):
    """What was brought: the champion, or that there is none."""

    champion: Champion | None


def read_champion(folder: Path, mend: str = "run `lcm-lora inventory`") -> Champion | None:
    """Return which version the adapter in `folder` is; None where there is no champion.

    Args:
        folder: As `lcm_lora.champion.write_champion` leaves it.
        mend: What the user can do if something is wrong with it.

    Raises:
        UserError: The file that says so is missing or damaged.
    """
    return read_record(folder / CHAMPION, Brought, mend).champion
