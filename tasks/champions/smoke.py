"""Prepare a version to be champion: fetched through the registry, it paints what it did before."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from lcm_lora import layout
from lcm_lora.errors import UserError
from lcm_lora.smoke import SMOKE, read_smoke
from tasks.champions.champion import check_adapter, download, fetch_adapter
from tasks.registry.evidence import Evidence
from tasks.running import process

_MEND = "register it again by `python -m flows.retrain`"
_DEADLINE = 3600.0
_PAINTED, _ERROR = "painted: ", "error: "


def check(client: MlflowClient, name: str, version: str, pictures: int) -> str:
    """Check that a version can be had whole, and paints as it did when it was scored.

    Args:
        client: Of the registry.
        name: Of the registered model.
        version: Its number.
        pictures: How many it has to paint at least; with 0 it is only fetched and hashed.

    Returns:
        What came out, in a line.

    Raises:
        UserError: It cannot be had, is not what was registered, or paints otherwise.
    """
    found = client.get_model_version(name, version)
    with TemporaryDirectory() as place:
        folder = Path(place)
        if not pictures:
            fetch_adapter(found, folder, _MEND)
            return "its adapter is the one that was registered"
        painted = _kept(found, pictures, folder)
        model = download(found, "", folder / "model", _MEND)
        check_adapter(found, model / "artifacts" / "adapter", _MEND)  # before any of it is loaded
        return _paint_again(_title(found), model, painted)


def _kept(version: ModelVersion, pictures: int, folder: Path) -> Path:
    """Return the folder of what a version painted when it was scored."""
    title, evidence = _title(version), Evidence(version, folder)
    kept = evidence.file(f"{layout.SMOKE.name}/{SMOKE}").parent
    record = read_smoke(kept, f"{title}: {_MEND}")
    if len(record.pictures) < pictures:
        raise UserError(
            f"{title}: was scored with {len(record.pictures)} smoke pictures, and registry.smoke "
            f"asks for {pictures}; {_MEND}"
        )
    for one in record.pictures:
        evidence.file(f"{layout.SMOKE.name}/{one.file}")
    return kept


def _paint_again(title: str, model: Path, painted: Path) -> str:
    command = [sys.executable, "-m", "tasks.champions.repaint", str(model), str(painted)]
    try:
        ended = process.heard(command, Path.cwd(), deadline=_DEADLINE)
    except process.OverdueError as error:
        raise UserError(f"{title}: its smoke pictures are not painted, {error}") from None
    if not ended.status and (said := ended.said(_PAINTED)):
        return said
    raise UserError(f"{title}: does not paint as when it was scored: {ended.why(_ERROR)}")


def _title(version: ModelVersion) -> str:
    return f"{version.name} version {version.version}"
