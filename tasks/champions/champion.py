"""The registry's champion: who it is, and its adapter brought here, so that every run measures it.

It is painted and measured beside the new adapter by the same code on the same evaluation set. So
what changes in how adapters are measured changes for both, and no old table has to be trusted.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion
from prefect import task
from prefect.cache_policies import NO_CACHE

from lcm_lora import layout
from lcm_lora.adapter_files import RECIPE
from lcm_lora.champion import ADAPTER, write_champion
from lcm_lora.champion_record import Champion, read_champion
from lcm_lora.errors import UserError, reason
from lcm_lora.gate.decision import Decision
from lcm_lora.recipe import Recipe, read_recipe
from lcm_lora.records import read_record
from tasks.registry.aliases import CHAMPION
from tasks.registry.reference import model_of
from tasks.running.graph import locked
from tasks.tracking.tracker import Tracker

_MEND = "give the alias `champion` to another version, or to none"


def current(tracker: Tracker, name: str) -> Champion | None:
    """Return who is champion of a registered model now; None if nobody is.

    Raises:
        UserError: The alias is on a version that no run of this project registered.
    """
    version = _holder(tracker, name)
    return None if version is None else _record(version)


def data_of(tracker: Tracker, name: str) -> tuple[Champion, str] | None:
    """Return the champion, and DVC's hash of the shards that it was trained on; None if nobody is.

    Raises:
        UserError: The alias is on a version that no run of this project registered.
    """
    version = _holder(tracker, name)
    if version is None:
        return None
    champion = _record(version)
    if not (md5 := version.tags.get("data_md5")):
        raise UserError(f"{champion.version}: has no tag data_md5, no run made it; {_MEND}")
    return champion, md5


def is_overtaken(tracker: Tracker, name: str, decision: Decision) -> bool:
    """Tell whether a decision is about a champion of before.

    It is not if its adapter is champion itself: against whom it won that was right at its time.
    """
    now = _weights(current(tracker, name))
    return now not in {decision.adapter_sha256, _weights(decision.champion)}


@task(task_run_name="bring the champion", cache_policy=NO_CACHE)
def bring(tracker: Tracker, name: str, for_new: bool = False) -> bool:
    """Put the champion's adapter where the first look finds it, or a note that there is none.

    Nothing is put there if it is the very adapter of the project: its comparison with the champion
    before it stands, and nothing has to run again.

    Args:
        tracker: Of the project.
        name: Of the registered model.
        for_new: The project is about to get another adapter, so bring the champion in any case.

    Returns:
        Whether the champion, or the note, is there; False where it is the project's own adapter.

    Raises:
        UserError: The champion's adapter cannot be had, or is not what was registered.
    """
    place = tracker.root / layout.BROUGHT
    version = _holder(tracker, name)
    if version is None:
        write_champion(place, None, None)
        return True
    champion = _record(version)
    if not for_new and _is_own(tracker.root, version):
        shutil.rmtree(place, ignore_errors=True)
        return False
    if not _is_here(place, champion):
        with tempfile.TemporaryDirectory(dir=_made(place.parent)) as folder:
            write_champion(place, champion, fetch_adapter(version, Path(folder), _MEND))
    return True


def _holder(tracker: Tracker, name: str) -> ModelVersion | None:
    model = model_of(tracker.client, name)
    number = model.aliases.get(CHAMPION) if model else None
    return tracker.client.get_model_version(name, str(number)) if number else None


def _record(version: ModelVersion) -> Champion:
    title = _title(version)
    if not (weights := version.tags.get("adapter_sha256")):
        raise UserError(f"{title}: the champion has no tag adapter_sha256, no run made it; {_MEND}")
    return Champion(version=title, weights_sha256=weights)


def _weights(champion: Champion | None) -> str | None:
    return champion.weights_sha256 if champion else None


def _is_own(root: Path, version: ModelVersion) -> bool:
    """Tell whether a version is of the project's adapter, be that here or in DVC's storage only."""
    with contextlib.suppress(UserError):
        recipe = read_record(root / layout.ADAPTER / RECIPE, Recipe, _MEND)
        return recipe.weights_sha256 == version.tags["adapter_sha256"]
    pulled = locked(root).get(layout.ADAPTER)
    return pulled is not None and pulled == version.tags.get("adapter_md5")


def _is_here(place: Path, champion: Champion) -> bool:
    """Tell whether a champion was brought before, and is still whole."""
    with contextlib.suppress(UserError):
        return read_champion(place) == champion and bool(read_recipe(place / ADAPTER))
    return False


def fetch_adapter(version: ModelVersion, folder: Path, mend: str) -> Path:
    """Return the folder of a version's adapter, and nothing else of what the version carries.

    Args:
        version: Of the registered model.
        folder: Where to put it.
        mend: What the user can do if it cannot be had, or is not what was registered.

    Raises:
        UserError: It cannot, or is not.
    """
    adapter = download(version, "/artifacts/adapter", folder, mend)
    check_adapter(version, adapter, mend)
    return adapter


def download(version: ModelVersion, part: str, folder: Path, mend: str) -> Path:
    """Return where a part of a version is, such as `/artifacts/adapter`, or all of it.

    Raises:
        UserError: It cannot be had.
    """
    uri = f"models:/{version.name}/{version.version}{part}"
    try:
        return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))
    except Exception as error:  # whatever the store of artifacts raises
        raise UserError(
            f"{_title(version)}: it cannot be fetched from MLflow ({reason(error)}); run again, "
            f"or {mend}"
        ) from None


def check_adapter(version: ModelVersion, adapter: Path, mend: str) -> None:
    """Check the adapter of a version against its tag.

    Raises:
        UserError: It is not whole, or not the one that was registered.
    """
    try:
        weights = read_recipe(adapter, mend).weights_sha256
    except UserError as error:
        what = str(error).replace(f"{adapter}/", "")
        raise UserError(f"{_title(version)}: is not as registered, {what}") from None
    if weights != version.tags.get("adapter_sha256"):
        raise UserError(
            f"{_title(version)}: its adapter in MLflow is not the one that its tag adapter_sha256 "
            f"names; {mend}"
        )


def _title(version: ModelVersion) -> str:
    return f"{version.name} version {version.version}"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
