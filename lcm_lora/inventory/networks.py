"""What the scoring networks and the plug-ins are made of."""

from __future__ import annotations

from pathlib import Path

from lcm_lora.errors import UserError
from lcm_lora.hashes import Hashes
from lcm_lora.model_files import ModelInventory
from lcm_lora.params.score import Looks, Score
from lcm_lora.records import Record, read_record
from lcm_lora.seeing.network_files import Networks, find_networks, plugin_record
from lcm_lora.shapes import places

_MEND = "run `lcm-lora inventory`"


class NetworkInventory(Record):
    """The scoring networks; `attributes` where the judge is asked, of looks or not."""

    features: dict[str, ModelInventory]
    clip: ModelInventory
    attributes: ModelInventory | None
    plugins: dict[str, str]
    """A hash over each command's words and the files among them."""


def look_at_networks(
    score: Score, hashes: Hashes, judges: Path = places.JUDGES, looks: Looks = None
) -> NetworkInventory:
    """Return what the scoring networks are made of.

    Args:
        score: Which they are.
        hashes: Of files that were read before.
        judges: Folder of the networks that the shapes world ships.
        looks: Which looks pictures should have.

    Raises:
        UserError: One is missing or of another kind.
    """
    return _inventory(score, find_networks(score, hashes, judges, looks), hashes)


def read_networks(
    path: Path, score: Score, hashes: Hashes, judges: Path = places.JUDGES, looks: Looks = None
) -> Networks:
    """Return the networks that the first look wrote to `path`, if they still stand.

    Args:
        path: What it saw.
        score: Which they are.
        hashes: Of files that were read before.
        judges: Folder of the networks that the shapes world ships.
        looks: Which looks pictures should have.

    Raises:
        UserError: There is no such file, or a network or a plug-in is gone or changed since.
    """
    known = read_record(path, NetworkInventory, _MEND)
    networks = find_networks(score, hashes, judges, looks)
    now = _inventory(score, networks, hashes)
    if known != now:
        changed = _changed(known, now, "score.attributes" if looks is None else "looks")
        raise UserError(f"{changed}: changed since the first look; {_MEND}")
    return networks


def _inventory(score: Score, networks: Networks, hashes: Hashes) -> NetworkInventory:
    return NetworkInventory(
        features={name: file.model for name, file in networks.features.items()},
        clip=networks.clip.model,
        attributes=networks.attributes.model if networks.attributes else None,
        plugins={
            name: plugin_record(name, plugin, hashes).sha256
            for name, plugin in score.plugins.items()
        },
    )


def _changed(known: NetworkInventory, now: NetworkInventory, judge: str) -> str:
    """Return the parameter that names what changed, and its place; `judge` names the judge."""
    for name, model in now.features.items():
        if known.features.get(name) != model:
            return f"score.networks.{name} {model.model}"
    if known.clip != now.clip:
        return "score.clip"
    if known.attributes != now.attributes:
        return judge
    for name, digest in now.plugins.items():
        if known.plugins.get(name) != digest:
            return f"score.plugins.{name}"
    return "score"
