"""The registry's champion as it was brought into the project: its adapter, and which version.

The flow brings it from the registry; the first look takes it over, so that what compares with it
depends on its content. Without a registry there is none, and nothing is compared.
"""

from __future__ import annotations

from pathlib import Path

from lcm_lora.champion_record import CHAMPION, Brought, Champion, read_champion
from lcm_lora.errors import UserError
from lcm_lora.families.family import FamilyName
from lcm_lora.files import link, new_folder
from lcm_lora.recipe import read_recipe
from lcm_lora.records import write_record

ADAPTER = "adapter"


def write_champion(folder: Path, champion: Champion | None, adapter: Path | None) -> None:
    """Replace `folder` by a champion and its adapter's files, or by the note that there is none."""
    with new_folder(folder) as made:
        write_record(made / CHAMPION, Brought(champion=champion))
        if adapter is not None:
            (made / ADAPTER).mkdir()
            for file in sorted(adapter.iterdir()):
                link(file, made / ADAPTER / file.name)


def take_over(brought: Path, out: Path, family: FamilyName) -> Champion | None:
    """Bring the output `out` up to what was brought; return who is champion.

    Nothing is written where it is the same already, so that its time of change stays.

    Args:
        brought: Where the flow left it; nothing there means no champion, or the one of before.
        out: Folder to write.
        family: Of the base that the champion is to paint with.

    Raises:
        UserError: It is damaged, or an adapter for another family.
    """
    if not (brought / CHAMPION).is_file():
        if not (out / CHAMPION).is_file():
            write_champion(out, None, None)
        return _whole(out, family)
    champion = _whole(brought, family)
    if not _is_known(out, champion, family):
        write_champion(out, champion, brought / ADAPTER if champion else None)
    return champion


def _is_known(out: Path, champion: Champion | None, family: FamilyName) -> bool:
    """Tell whether the output is whole, and of this champion."""
    try:
        return _whole(out, family) == champion
    except UserError:
        return False


def _whole(folder: Path, family: FamilyName) -> Champion | None:
    """Return the champion in a folder, after checking its adapter."""
    mend = f"remove the folder {folder}, and run the flow again"
    champion = read_champion(folder, mend)
    if champion is None:
        return None
    recipe = read_recipe(folder / ADAPTER, mend)
    if recipe.weights_sha256 != champion.weights_sha256:
        raise UserError(f"{folder / ADAPTER}: not the weights of {champion.version}; {mend}")
    if recipe.base.family != family:
        raise UserError(
            f"registry.name: the champion, {champion.version}, is an adapter for "
            f"{recipe.base.family}, the base is of {family}; name another registered model"
        )
    return champion
