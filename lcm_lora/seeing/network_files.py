"""The networks that the parameters name, as files: which they are, and whether they can be right.

No torch here: the first look checks with it, and a stage that finds all its work done loads none.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

from lcm_lora.errors import UserError, reason
from lcm_lora.hashes import Hashes
from lcm_lora.model_files import ModelInventory, identity, look_at_model
from lcm_lora.params.score import Looks, Network, Plugin, Score, judged
from lcm_lora.seeing.inception import INCEPTION, check_inception
from lcm_lora.seeing.preparation import DINOV2, Preparation, clip_preparation, whole
from lcm_lora.seeing.set_records import NetworkRecord
from lcm_lora.shapes import places

SHAPES = Preparation(32, colours="-1..1")
"""Of all judges of the shapes world."""
_INCEPTION = Preparation(299)

_TYPES = {"clip": ("clip", "clip_vision_model"), "dinov2": ("dinov2",)}
"""What config.json of a transformers folder calls itself."""
_MEMBERS = {"inception": "constants.pkl", "torchscript": "constants.pkl", "export": "model.json"}
"""What a file must hold; the names are compared, nothing is unpickled."""
MENDED = {
    "judge": "set score.attributes to false, or run `lcm-lora shapes-teacher`",
    "looks": "set looks to null, or run `lcm-lora shapes-looks`",
}
"""How a judge is mended that is missing or damaged."""


@dataclass(frozen=True, slots=True)
class NetworkFile:
    """A network: its files, and how it wants pictures."""

    where: str
    """The parameter that names it."""
    name: str
    """In records."""
    kind: str
    path: Path
    model: ModelInventory
    preparation: Preparation

    @property
    def sha256(self) -> str:
        """Of a file its own; of a folder one over the names and contents that loading reads."""
        return self.model.files[self.path.name] if self.path.is_file() else self.model.sha256

    @property
    def record(self) -> NetworkRecord:
        """What stands beside the arrays that it makes."""
        said = str(self.preparation)
        return NetworkRecord(name=self.name, sha256=self.sha256, preprocessing=said)

    def error(self, what: str) -> UserError:
        """Return an error about it, in one line."""
        return UserError(f"{self.where} {self.path}: {what}; mend it, or name another")


@dataclass(frozen=True, slots=True)
class Networks:
    """All that looks at pictures."""

    features: dict[str, NetworkFile]
    """By the names that their metrics carry; the first gives the headline."""
    clip: NetworkFile
    attributes: NetworkFile | None
    looks: Looks
    """Which looks the judge of attributes wants; None where it knows no looks."""
    judged: tuple[str, ...]
    """The arrays that the judge makes."""


def find_networks(
    score: Score, hashes: Hashes, judges: Path = places.JUDGES, looks: Looks = None
) -> Networks:
    """Return the networks of the parameters, each checked as far as files say it.

    Args:
        score: The parameters.
        hashes: Of files that were read before.
        judges: Folder of the networks that the shapes world ships.
        looks: Which looks pictures should have.

    Raises:
        UserError: One is missing or of another kind.
    """
    features = {
        name: _feature_network(name, network, hashes, judges)
        for name, network in score.networks.items()
    }
    clip = _shapes_clip("score.clip", hashes, judges)
    if score.clip != "shapes":
        clip = _folder("score.clip", Path(score.clip).resolve().name, "clip", score.clip, hashes)
    judge = _judge(score, hashes, judges, looks)
    return Networks(features, clip, judge, looks, judged(score, looks))


def _feature_network(name: str, network: Network, hashes: Hashes, judges: Path) -> NetworkFile:
    where = f"score.networks.{name}"
    if network.kind == "shapes":
        return _shapes_clip(where, hashes, judges)
    assert network.path is not None
    if network.kind in _TYPES:
        return _folder(where, name, network.kind, network.path, hashes)
    return _file(where, name, network, hashes)


def _shapes_clip(where: str, hashes: Hashes, judges: Path) -> NetworkFile:
    model = look_at_model("shapes", judges / "clip", hashes)
    return NetworkFile(where, "shapes", "shapes", judges / "clip", model, SHAPES)


def _judge(score: Score, hashes: Hashes, judges: Path, looks: Looks) -> NetworkFile | None:
    if looks is not None:
        # In the name, since what the judge says of a picture depends on it.
        name = f"shapes, looks: {' and '.join(sorted(looks)) or 'none'}"
        return _judge_file("looks", name, "looks", judges / places.LOOKS.name, hashes)
    if score.attributes:
        path = judges / places.JUDGE.name
        return _judge_file("score.attributes", "shapes", "judge", path, hashes)
    return None


def _judge_file(where: str, name: str, kind: str, path: Path, hashes: Hashes) -> NetworkFile:
    if not path.is_file():
        raise UserError(f"{path}: no such file; {MENDED[kind]}")
    return NetworkFile(where, name, kind, path, look_at_model("shapes", path, hashes), SHAPES)


def _folder(where: str, name: str, kind: str, given: str, hashes: Hashes) -> NetworkFile:
    path = Path(given)
    if not path.is_dir():
        raise UserError(f"{where} {path}: no such folder; mend its place in params.yaml")
    _check_type(where, path, kind)
    preparation = clip_preparation(path, where) if kind == "clip" else DINOV2
    return NetworkFile(where, name, kind, path, look_at_model(given, path, hashes), preparation)


def _check_type(where: str, folder: Path, kind: str) -> None:
    try:
        found = json.loads((folder / "config.json").read_bytes())["model_type"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{where} {folder}: not a transformers folder with a config.json ({reason(error)}); "
            "mend it, or name another"
        ) from None
    if found not in _TYPES[kind]:
        raise UserError(
            f"{where} {folder}: holds a {str(found)[:40]!r}, not a {kind}; name another, or "
            "another kind"
        )
    if not list(folder.glob("*.safetensors")):
        raise UserError(f"{where} {folder}: holds no safetensors; save it in that format")


def _file(where: str, name: str, network: Network, hashes: Hashes) -> NetworkFile:
    assert network.path is not None
    path = Path(network.path)
    if not path.is_file():
        raise UserError(f"{where} {path}: no such file; mend its place in params.yaml")
    model = look_at_model(network.path, path, hashes)
    if network.kind == "inception":
        check_inception(str(path), model.files[path.name])
        _check_archive(where, path, network.kind)
        return NetworkFile(where, INCEPTION, network.kind, path, model, _INCEPTION)
    _check_archive(where, path, network.kind)
    assert network.pixels is not None
    preparation = whole(network.pixels, network.mean, network.std)
    return NetworkFile(where, name, network.kind, path, model, preparation)


def _check_archive(where: str, path: Path, kind: str) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {Path(name).name for name in archive.namelist()}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{where} {path}: not a file of kind {kind} ({reason(error)}); write it again"
        ) from None
    if _MEMBERS[kind] not in names:
        raise UserError(f"{where} {path}: not a file of kind {kind}; name another, or its own kind")


def plugin_record(name: str, plugin: Plugin, hashes: Hashes) -> NetworkRecord:
    """Return who measures with a command: a hash of its words and of the files among them."""
    words = {f"{place} {word}": "" for place, word in enumerate(plugin.command)}
    files = {word: hashes.sha256(Path(word)) for word in plugin.command if Path(word).is_file()}
    return NetworkRecord(
        name=name, sha256=identity(words | files), lower_is_better=plugin.lower_is_better
    )
