"""What the scoring networks are made of."""

from __future__ import annotations

from pathlib import Path

from lcm_lora.evaluation.names import check_inception
from lcm_lora.hashes import Hashes
from lcm_lora.model_files import ModelInventory, look_at_model
from lcm_lora.params.score import Score
from lcm_lora.records import Record
from lcm_lora.shapes import places


class NetworkInventory(Record):
    """The scoring networks; `attributes` where the judge is asked."""

    features: ModelInventory
    clip: ModelInventory
    attributes: ModelInventory | None


def look_at_networks(score: Score, hashes: Hashes) -> NetworkInventory:
    """Return what the scoring networks are made of.

    Raises:
        UserError: One is missing or another one.
    """
    features = places.CLIP if score.features == "shapes" else Path(score.features)
    clip = places.CLIP if score.clip == "shapes" else Path(score.clip)
    found = look_at_model(score.features, features, hashes)
    if score.features != "shapes":
        check_inception(score.features, found.files[features.name])
    return NetworkInventory(
        features=found,
        clip=look_at_model(score.clip, clip, hashes),
        attributes=look_at_model("shapes", places.JUDGE, hashes) if score.attributes else None,
    )
